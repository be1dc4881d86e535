"""Which rank of a replica holds which layers and which share of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

from thunderserve.spec.errors import SpecError

MODEL_TYPES = ("llama", "qwen2", "qwen3", "mistral", "gemma3_text")
"""Whose forward pass may begin and end at any layer, and whose sharding plans were tried."""


class Share(NamedTuple):
    """What one rank holds."""

    layers: tuple[int, int]
    """From, and up to but not including."""
    place: int
    """Within its tensor-parallel group."""
    degree: int
    first: bool
    """Of the first stage."""
    last: bool


@dataclass(frozen=True)
class Layout:
    """Stages in order, as (layers, TP degree) each. Ranks are numbered stage by stage."""

    stages: tuple[tuple[int, int], ...]

    @property
    def size(self) -> int:
        """Ranks."""
        return sum(degree for _, degree in self.stages)

    def ranks(self, stage: int) -> tuple[int, ...]:
        """Of a stage; the first leads."""
        begin = sum(degree for _, degree in self.stages[:stage])
        return tuple(range(begin, begin + self.stages[stage][1]))

    def stage_of(self, rank: int) -> int:
        """Of a rank."""
        return next(stage for stage in range(len(self.stages)) if rank in self.ranks(stage))

    def share(self, rank: int) -> Share:
        """What a rank holds."""
        stage = self.stage_of(rank)
        begin = sum(layers for layers, _ in self.stages[:stage])
        count, degree = self.stages[stage]
        place = self.ranks(stage).index(rank)
        return Share((begin, begin + count), place, degree, stage == 0, stage == len(self.stages) - 1)


def refuse(model_type: str, heads: int, kv_heads: int, degrees: Sequence[int]) -> None:
    """Raise SpecError for a model that cannot be cut this way, naming what is in the way."""
    if model_type not in MODEL_TYPES:
        raise SpecError(
            "cannot be cut over several devices", value=model_type, remedy=f"known: {', '.join(MODEL_TYPES)}"
        )
    for degree in degrees:
        if heads % degree or kv_heads % degree:
            raise SpecError(
                f"{heads} heads and {kv_heads} KV heads cannot be shared by {degree} devices", key="stages",
                remedy="take a TP degree that divides both, or pipeline stages",
            )  # fmt: skip


@dataclass(frozen=True)
class RankOptions:
    """What a rank beyond the first is told when it is started."""

    rank: int
    layout: Layout
    port: int
    """Where the first rank is met, on this machine."""
    model: str
    dtype: str
    device: str
    attention: str
    threads: int
    cores: tuple[int, ...]

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> RankOptions:
        """Raises TypeError or ValueError when it is not what ``to_json`` wrote."""
        found = json.loads(text)
        stages = tuple((int(layers), int(degree)) for layers, degree in found["layout"]["stages"])
        return cls(**found | {"layout": Layout(stages), "cores": tuple(found["cores"])})
