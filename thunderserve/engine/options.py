"""What a worker process is told when it is started: ``python -m thunderserve.engine.worker '<one JSON object>'``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

from thunderserve.engine.messages import Role
from thunderserve.spec.plan import Transfer


@dataclass(frozen=True)
class Rank:
    """One device of a replica on several: the layers and the share of their heads that it holds."""

    first: int
    stop: int
    """Layers ``first`` to ``stop - 1``: those of its pipeline stage."""
    place: int = 0
    of: int = 1
    """It is number ``place`` of the ``of`` ranks that divide the stage by tensor parallelism."""
    device: str = "cpu"
    threads: int = 1
    cores: tuple[int, ...] = ()

    @property
    def layers(self) -> range:
        """Of its stage."""
        return range(self.first, self.stop)


@dataclass(frozen=True)
class WorkerOptions:
    """One worker, which is one replica; its processes end when the connection to its coordinator does."""

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
    steps: str = ""
    """A file that gets a line for every step; empty: none."""
    ranks: tuple[Rank, ...] = ()
    """Of a replica on several devices, stage by stage; the worker is rank 0 and starts the others. None: all on ``device``."""

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(asdict(self) | {"role": list(self.role)})

    @classmethod
    def from_json(cls, text: str) -> WorkerOptions:
        """Raises TypeError or ValueError when it is not what ``to_json`` wrote."""
        found = json.loads(text)
        host, port = found.pop("coordinator")
        ranks = tuple(Rank(**rank | {"cores": tuple(rank["cores"])}) for rank in found["ranks"])
        found |= {"coordinator": (host, int(port)), "role": Role(*found["role"]), "cores": tuple(found["cores"])}
        return cls(**found | {"ranks": ranks})


def longest_step(role: Role) -> int:
    """Tokens of the longest step that a worker in this role has as a rule; 0 where that is a batch that decodes."""
    return 0 if role.phase == "decode" else role.max_batched_tokens
