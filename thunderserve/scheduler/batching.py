"""How replicas of each phase batch, and the knots of their step tables."""

from __future__ import annotations

from dataclasses import dataclass

from thunderserve.scheduler.layer_costs import Bounds
from thunderserve.spec.model import ModelSpec
from thunderserve.spec.plan import Batching, Phase


@dataclass(frozen=True)
class BatchingRules:
    """Prefill packs prompts to a saturation length and decode batches continuously, as DistServe does; colocated replicas
    mix chunks into decode batches (Sarathi). The paper's own batch profile is not known."""

    saturation_tokens: int = 2048
    max_sequences: int = 256
    chunk_tokens: int = 2048

    def by_phase(self) -> dict[Phase, Batching]:
        """One ``Batching`` a phase."""
        few = min(self.max_sequences, 64)
        return {
            Phase.PREFILL: Batching(
                policy="saturation",
                max_sequences=few,
                max_batched_tokens=self.saturation_tokens,
                saturation_tokens=self.saturation_tokens,
            ),
            Phase.DECODE: Batching(
                policy="continuous", max_sequences=self.max_sequences, max_batched_tokens=self.max_sequences
            ),
            Phase.BOTH: Batching(
                policy="chunked", max_sequences=self.max_sequences, max_batched_tokens=self.chunk_tokens
            ),
        }


DEFAULT_BATCHING = BatchingRules()


def bounds_of(model: ModelSpec, by_phase: dict[Phase, Batching]) -> Bounds:
    """Where the knots of step tables end: one set for all phases, so that a stage is probed once."""
    tokens = max(max(one.max_batched_tokens, one.saturation_tokens) for one in by_phase.values())
    sequences = max(one.max_sequences for one in by_phase.values())
    return Bounds(max(model.max_context, tokens), sequences, model.max_context)
