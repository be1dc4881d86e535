"""Where step times come from: the one contract behind which a roofline, a user's profile or a kernel table may stand."""

from __future__ import annotations

from typing import Protocol

from thunderserve.cost.codec import CodecSpeed
from thunderserve.cost.step_table import StepTable
from thunderserve.spec.cluster import Cluster
from thunderserve.spec.kv import KvCodec
from thunderserve.spec.model import ModelSpec
from thunderserve.spec.plan import Replica


class CostSource(Protocol):
    """Tells how long the steps of a replica take."""

    def step_table(
        self,
        model: ModelSpec,
        replica: Replica,
        cluster: Cluster,
        *,
        max_tokens: int,
        max_sequences: int,
        max_context: int,
    ) -> StepTable:
        """The step times of ``replica``, with knots up to the three bounds; beyond them the last segments continue.

        ``max_tokens``: new tokens of one step. ``max_sequences``: sequences in a step. ``max_context``: tokens of one
        sequence, prompt and output together. Raises ValueError, in words, if the source knows nothing of these GPUs.
        """
        ...

    def codec_speed(self, codec: KvCodec) -> CodecSpeed:
        """How fast ``codec`` encodes and decodes. Raises ValueError if the source has a table that lacks it."""
        ...
