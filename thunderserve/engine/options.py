"""What a worker process is told when it is started: ``python -m thunderserve.engine.worker '<one JSON object>'``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

from thunderserve.engine.messages import Role
from thunderserve.spec.plan import Transfer


@dataclass(frozen=True)
class WorkerOptions:
    """One worker. A worker is one replica on one device; its process ends when the connection to its coordinator does."""

    replica: int
    coordinator: tuple[str, int]
    model: str
    """A folder with config.json, safetensors and a tokenizer, or a name of the hub."""
    role: Role
    host: str = "127.0.0.1"
    """Where it listens for keys and values; others reach it under this name."""
    dtype: str = "float32"
    wire_dtype: str = ""
    """What keys and values are cast to before a codec sees them, so what ``raw`` means; empty: ``dtype``, which loses nothing."""
    device: str = "cpu"
    threads: int = 1
    cores: tuple[int, ...] = ()
    """Cores it is pinned to; none: wherever the system puts it."""
    block_tokens: int = 16
    blocks: int = 0
    """KV blocks; 0: as many as ``kv_bytes`` hold."""
    kv_bytes: int = 1 << 30
    max_context: int = 0
    """0: the model's own."""
    transfer: Transfer = "layerwise"
    """When keys and values leave."""
    reuse_prefixes: bool = True
    attention: Literal["auto", "sdpa", "flash"] = "auto"
    seed: int = 0

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(asdict(self) | {"role": list(self.role)})

    @classmethod
    def from_json(cls, text: str) -> WorkerOptions:
        """Raises TypeError or ValueError when it is not what ``to_json`` wrote."""
        found = json.loads(text)
        host, port = found.pop("coordinator")
        return cls(
            **found | {"coordinator": (host, int(port)), "role": Role(*found["role"]), "cores": tuple(found["cores"])}
        )
