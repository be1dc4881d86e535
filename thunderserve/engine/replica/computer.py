"""What a worker asks of whatever computes its steps: a model on one device, or a team of ranks on several."""

from __future__ import annotations

from typing import Any, Protocol

from thunderserve.engine.replica.attention import Seen
from thunderserve.engine.replica.step import Step


class Computer(Protocol):
    """``memory`` gives the very object that ``execute`` wants back; what it is, is the computer's own matter."""

    layers: int
    vocabulary: int
    max_context: int
    kv_bytes_per_token: int
    """Keys and values of one token over all layers, on whatever devices they are."""

    def memory(self, blocks: int, block_tokens: int) -> Any:
        """An empty cache, a ``KvMemory``."""

    def execute(self, step: Step, memory: Any, seen: Seen | None = None) -> list[int]:
        """Compute a step; return one token for each of ``step.sampled``. ``seen`` is shown each layer's new keys and values."""

    def prepare(self, most: int) -> None:
        """Do before the first step what the first steps of up to ``most`` tokens would else do."""

    def stop(self) -> None:
        """End what it has started."""
