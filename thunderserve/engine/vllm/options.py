"""What the process that looks after one vLLM instance is told: ``python -m thunderserve.engine.vllm '<one JSON object>'``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class AttendantOptions:
    """One replica."""

    replica: int
    coordinator: tuple[str, int]
    name: str
    """Of the model, as the instance calls it."""
    url: str
    """Of the instance, without ``/v1``."""
    host: str = "127.0.0.1"
    """Where other attendants hand requests over; others reach it under this name."""
    command: tuple[str, ...] = ()
    """Starts the instance; empty: it runs already."""
    environment: dict[str, str] = field(default_factory=dict)
    cores: tuple[int, ...] = ()
    connector: str = "thunderserve"

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> AttendantOptions:
        """Raises TypeError or ValueError when it is not what ``to_json`` wrote."""
        found = json.loads(text)
        host, port = found["coordinator"]
        lists = {"coordinator": (host, int(port)), "command": tuple(found["command"]), "cores": tuple(found["cores"])}
        return cls(**found | lists)
