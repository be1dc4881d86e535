"""What the lower level decides for one group: stages in order, each a TP group of one kind with its layers."""

from __future__ import annotations

from typing import NamedTuple

from thunderserve.cost.step_table import Floats
from thunderserve.spec.plan import Phase


class StageChoice(NamedTuple):
    """``tp`` cards of one kind that hold ``num_layers``."""

    kind: int
    tp: int
    num_layers: int


class Configuration(NamedTuple):
    """A parallel configuration and what closed forms expect of it. R sample requests, G batch sizes."""

    phase: Phase
    stages: tuple[StageChoice, ...]
    kv_tokens: int
    """KV tokens that fit on every card, in whole blocks."""
    max_sequences: int
    """Sequences of one batch. A decode replica takes no more than its KV holds to their ends, evenly over its lanes."""
    latency_s: Floats
    """(R,) prefill on an idle pipeline."""
    busy_s: float
    """Mean seconds a request occupies the slowest stage in prefill."""
    busy_cv2: float
    """Squared coefficient of variation of that."""
    rate_per_s: Floats
    """(G,) decode tokens a second at rising batch sizes, all lanes filled alike."""
    cycle_s: Floats
    """(G,) seconds from one token of a sequence to its next at that batch."""
    codec_s_per_token: float
    """Seconds in which the slowest card reads its 16-bit KV of one token once."""

    def describe(self) -> str:
        """``TP=2, PP=2``, or the degrees by stage where they differ."""
        degrees = [stage.tp for stage in self.stages]
        tp = str(degrees[0]) if len(set(degrees)) == 1 else "+".join(map(str, degrees))
        return f"TP={tp}, PP={len(self.stages)}"
