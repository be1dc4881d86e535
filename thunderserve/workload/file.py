"""``configs/workloads/<name>.yaml``: request lengths, arrivals, limits, and how the load shifts with time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from thunderserve.spec.noun import Noun
from thunderserve.spec.units import PositiveSeconds


class ConstantLengths(Noun):
    """Every request alike."""

    kind: Literal["constant"]
    prompt: int = Field(gt=0)
    output: int = Field(gt=0)


class Lognormal(Noun):
    """Tokens: lognormal by ``mean`` or ``median`` and by ``sigma`` (of the logarithm) or ``cv``, rounded, at least 1."""

    mean: float | None = Field(default=None, gt=0)
    median: float | None = Field(default=None, gt=0)
    sigma: float | None = Field(default=None, ge=0)
    cv: float | None = Field(default=None, ge=0)
    """Standard deviation over mean."""
    min: int = Field(default=1, ge=1)
    max: int | None = Field(default=None, ge=1)
    """Values beyond ``min`` and ``max`` are set to them."""

    @model_validator(mode="after")
    def _is_whole(self) -> Lognormal:
        if (self.mean is None) == (self.median is None):
            raise ValueError("give either mean or median")
        if (self.sigma is None) == (self.cv is None):
            raise ValueError("give either sigma or cv")
        if self.max is not None and self.max < self.min:
            raise ValueError(f"max ({self.max}) is below min ({self.min})")
        return self


class LognormalLengths(Noun):
    """Prompt and output lognormal; ``correlation`` is that of their logarithms."""

    kind: Literal["lognormal"]
    prompt: Lognormal
    output: Lognormal
    correlation: float = Field(default=0, gt=-1, lt=1)


class TableLengths(Noun):
    """A joint histogram of prompt and output lengths, drawn evenly within its cells."""

    kind: Literal["table"]
    path: str
    """A CSV file, from the folder of the file that names it. ``thunderserve.workload.table`` says how it reads."""


class Columns(Noun):
    """Which columns of a trace file hold what, where the reader does not know them by their names."""

    arrival: str | None = None
    prompt: str
    output: str
    unit: Literal["s", "ms", "us", "ns"] = "s"
    """Of a numeric ``arrival``; dates and times need none."""


class TraceLengths(Noun):
    """The rows of a trace file, drawn with replacement; or one after the other when arrivals are replayed."""

    kind: Literal["trace"]
    path: str
    columns: Columns | None = None


class Part(Noun):
    """A weighted part of a mixture: another workload's lengths, or lengths given here."""

    weight: float = Field(gt=0)
    workload: str | None = None
    lengths: Lengths | None = None

    @model_validator(mode="after")
    def _is_one_kind(self) -> Part:
        if (self.workload is None) == (self.lengths is None):
            raise ValueError("give either workload or lengths")
        return self


class MixtureLengths(Noun):
    """Each request comes from one of the parts, in proportion to their weights."""

    kind: Literal["mixture"]
    parts: tuple[Part, ...] = Field(min_length=1)


Lengths = Annotated[
    ConstantLengths | LognormalLengths | TableLengths | TraceLengths | MixtureLengths, Field(discriminator="kind")
]


class PoissonArrivals(Noun):
    """Exponential gaps."""

    kind: Literal["poisson"] = "poisson"


class ConstantArrivals(Noun):
    """Equal gaps."""

    kind: Literal["constant"]


class GammaArrivals(Noun):
    """Gamma gaps, by ``cv`` (standard deviation over mean) or by ``burstiness`` (1 / cv**2, as vLLM's benchmark has it)."""

    kind: Literal["gamma"]
    cv: float | None = Field(default=None, gt=0, le=100)
    burstiness: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _is_one_kind(self) -> GammaArrivals:
        if (self.cv is None) == (self.burstiness is None):
            raise ValueError("give either cv or burstiness (1 / cv**2)")
        return self

    @property
    def shape(self) -> float:
        """Of the gamma distribution: 1 is Poisson, less is burstier."""
        if self.burstiness is not None:
            return self.burstiness
        cv = self.cv or 1.0
        # A product, not a power: the C libraries may round powers each in their own way.
        return 1.0 / (cv * cv)


class ReplayArrivals(Noun):
    """The timestamps of the trace file. ``speed: 2`` plays them twice as fast; a rate scales them to that mean rate."""

    kind: Literal["replay"]
    speed: float = Field(default=1, gt=0)


def _spelled_out(value: object) -> object:
    return {"kind": value} if isinstance(value, str) else value


_Spelled = Annotated[PoissonArrivals | ConstantArrivals | GammaArrivals | ReplayArrivals, Field(discriminator="kind")]
_Short = Literal["poisson", "constant", "replay"]
Arrivals = Annotated[_Spelled, BeforeValidator(_spelled_out, json_schema_input_type=_Spelled | _Short)]
"""``poisson`` is short for ``{kind: poisson}``."""


class Segment(Noun):
    """A stretch of a workload that shifts: how long, how fast, and what lengths. Segments follow each other in a circle."""

    share: float | None = Field(default=None, gt=0, le=1)
    """Of all requests."""
    requests: int | None = Field(default=None, gt=0)
    duration_s: PositiveSeconds | None = None
    factor: float = Field(default=1, gt=0)
    """Times the rate."""
    workload: str | None = None
    lengths: Lengths | None = None
    """Without ``workload`` and ``lengths`` the segment has those of the workload around it."""

    @model_validator(mode="after")
    def _is_whole(self) -> Segment:
        if sum(extent is not None for extent in (self.share, self.requests, self.duration_s)) != 1:
            raise ValueError("give one of share, requests and duration")
        if self.workload is not None and self.lengths is not None:
            raise ValueError("give either workload or lengths")
        return self

    @property
    def extent(self) -> str:
        """Which of the three measures it uses."""
        return "share" if self.share is not None else "requests" if self.requests is not None else "duration"


class WorkloadFile(Noun):
    """A workload. Its lengths come from one of ``lengths``, ``path`` (a trace file) and ``base`` (another workload).

    With ``base`` everything is as there but for what is given here. ``{name: azure-code, arrivals: constant}`` is short
    for the same with ``base``.
    """

    name: str = ""
    description: str = ""
    source: str = ""
    licence: str = ""
    base: str | None = None
    path: str | None = None
    columns: Columns | None = None
    """Of ``path``."""
    lengths: Lengths | None = None
    arrivals: Arrivals | None = None
    """Poisson when nothing is said."""
    segments: tuple[Segment, ...] = ()
    max_prompt: int | None = Field(default=None, gt=0)
    max_output: int | None = Field(default=None, gt=0)
    """Longer requests are dropped, and counted; generated ones are drawn anew."""

    @model_validator(mode="before")
    @classmethod
    def _name_is_a_base(cls, data: Any) -> Any:
        sources = ("base", "path", "lengths", "segments")
        if isinstance(data, Mapping) and "name" in data and not any(key in data for key in sources):
            return {key: value for key, value in data.items() if key != "name"} | {"base": data["name"]}
        return data

    @model_validator(mode="after")
    def _is_whole(self) -> WorkloadFile:
        given = [name for name in ("base", "path", "lengths") if getattr(self, name) is not None]
        full = bool(self.segments) and all(part.workload or part.lengths for part in self.segments)
        if len(given) > 1 or not (given or full):
            raise ValueError("give one of base, path and lengths" + (f", not {' and '.join(given)}" if given else ""))
        if self.columns is not None and self.path is None:
            raise ValueError("columns belong to a path")
        if len({part.extent for part in self.segments}) > 1:
            raise ValueError("all segments must be measured alike: share, requests or duration")
        total = sum(part.share or 0.0 for part in self.segments)
        if self.segments and self.segments[0].share is not None and abs(total - 1) > 1e-9:
            raise ValueError(f"the shares of the segments sum to {total:.6g}, not 1")
        return self
