"""The sweep file as a noun: axes, what to measure, what to draw."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from harness.sweep.backends import SIMULATED
from harness.sweep.plain import plain
from thunderserve.spec.gpu import Catalogue
from thunderserve.spec.noun import Noun
from thunderserve.spec.slo import Slo
from thunderserve.spec.units import PerSecond, PositiveSeconds


def _many(value: Any) -> Any:
    """A single thing stands for a list of one."""
    return value if isinstance(value, list | tuple) else [value]


def _once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    twice = [value for index, value in enumerate(values) if value in values[:index]]
    if twice:
        raise PydanticCustomError("twice", "names {what} twice", {"what": str(twice[0])})
    return values


def _system(value: Any) -> Any:
    if isinstance(value, str):
        return {"name": value}
    if not isinstance(value, dict):
        raise PydanticCustomError(
            "system", "is not a system: write a name, or {example}", {"example": "{name: x, option: y}"}
        )
    named = {key: plain(item) for key, item in value.items() if key in ("name", "label", "clusters", "backends")}
    return named | {"options": {key: plain(item) for key, item in value.items() if key not in named}}


def _backend(value: Any) -> Any:
    if isinstance(value, str):
        return {"name": value}
    if not isinstance(value, dict):
        raise PydanticCustomError(
            "backend", "is not a backend: write a name, or {example}", {"example": "{name: openai, url: http://...}"}
        )
    named = {key: plain(item) for key, item in value.items() if key in ("name", "label")}
    return named | {"options": {key: plain(item) for key, item in value.items() if key not in named}}


def _workload(value: Any) -> Any:
    if isinstance(value, str):
        return {"spec": value}
    if not isinstance(value, dict):
        raise PydanticCustomError(
            "workload", "is not a workload: write a name, or {example}", {"example": "{path: trace.csv}"}
        )
    label = {"label": value["label"]} if "label" in value else {}
    return label | {"spec": {key: plain(item) for key, item in value.items() if key != "label"}}


def _cluster(value: Any) -> Any:
    if isinstance(value, str | dict):
        return {"spec": plain(value)}
    raise PydanticCustomError("cluster", "is not a cluster: write a name, a path, or what a cluster file holds")


def _slos(value: Any) -> Any:
    return {"limits": list(value)} if isinstance(value, list | tuple) else value


def _planned(value: Any) -> Any:
    return {"scale": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


def _rate_kind(value: Any) -> str:
    return "search" if isinstance(value, dict | CapacityRate) else "list"


class SystemChoice(Noun):
    """A system and its options: ``vllm``, or ``{name: distserve, affinity: low}``. ``name`` may be a path or a dotted module."""

    name: str = Field(min_length=1)
    label: str = ""
    """What tables and figures call it; by default the name with its options."""
    options: dict[str, Any] = Field(default={})
    clusters: Annotated[tuple[str, ...], BeforeValidator(_many)] = ()
    """The sweep's clusters it runs on, by name; by default all. Systems with a cluster each are compared across them."""
    backends: Annotated[tuple[str, ...], BeforeValidator(_many)] = ()
    """The sweep's backends that carry it out, by label; by default all. Systems with a real one each are compared across them."""

    @property
    def shown(self) -> str:
        """``distserve[affinity=low]``: the label, or the name with its options."""
        if self.label:
            return self.label
        given = ",".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.family}[{given}]" if given else self.family

    @property
    def family(self) -> str:
        """The name of its module: ``distserve``."""
        return self.name.rsplit("/", 1)[-1].removesuffix(".py").rsplit(".", 1)[-1]


class BackendChoice(Noun):
    """A backend and its options: ``simulated``, or ``{name: openai, url: "http://127.0.0.1:8000"}``."""

    name: str = Field(min_length=1)
    label: str = ""
    """What tables and figures call it; by default its name."""
    options: dict[str, Any] = Field(default={})

    @model_validator(mode="after")
    def _says_what_is_simulated(self) -> BackendChoice:
        if self.label and SIMULATED in (self.name, self.label) and self.label != self.name:
            raise ValueError(f"a label must not hide or claim that a backend is {SIMULATED}")
        return self

    @property
    def shown(self) -> str:
        """The label, or the name."""
        return self.label or self.name


class WorkloadChoice(Noun):
    """A workload: a name from the catalogue, or a mapping as in a workload file, or ``{path: trace.csv}``."""

    spec: str | dict[str, Any]
    label: str = ""
    """What tables and figures call it; by default its name, with what differs from the file of that name."""


class ClusterChoice(Noun):
    """A cluster: a name from the catalogue, a path, or a mapping as in a cluster file."""

    spec: str | dict[str, Any]

    @property
    def shown(self) -> str:
        """What tables and figures call it: its name, or the stem of its path."""
        given = self.spec if isinstance(self.spec, str) else str(self.spec.get("name", "cluster"))
        return given.rsplit("/", 1)[-1].removesuffix(".yaml").removesuffix(".yml")


class CapacitySearch(Noun):
    """How the highest rate that holds is searched: grow a bracket geometrically, then halve it."""

    attainment: float = Field(default=0.9, gt=0, lt=1)
    """Share of requests that must meet the SLO."""
    start_per_s: PerSecond = 1.0
    lowest_per_s: PerSecond = 1 / 64
    highest_per_s: PerSecond = 4096.0
    tolerance: float = Field(default=0.02, gt=0, lt=1)
    """The bracket is narrow enough when its width is this share of its upper end."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Of the verdict at the bracket's ends: holds, fails, or undetermined at this sample size."""


class CapacityRate(Noun):
    """``rate: {capacity: {attainment: 0.9}}``."""

    capacity: CapacitySearch


class SloAxis(Noun):
    """What is asked of a request: multiples of it alone, or absolute limits. Cells are judged at each from the same records."""

    scale: Annotated[tuple[Annotated[float, Field(gt=0)], ...], BeforeValidator(_many)] = ()
    """Multiples of the latency of the same request alone on the reference GPU."""
    of: tuple[Literal["ttft", "tpot", "e2e"], ...] = ("ttft", "tpot", "e2e")
    """Which latencies the scale limits."""
    ttft_s: PositiveSeconds | None = None
    tpot_s: PositiveSeconds | None = None
    e2e_s: PositiveSeconds | None = None
    limits: tuple[Slo, ...] = ()
    """Several objectives; ``slo: [{ttft: 500 ms}, {ttft: 1 s}]`` is short for it."""
    plan: Annotated[Slo | None, BeforeValidator(_planned)] = None
    """The objective that plans are made for; by default the middle one of the list."""

    @model_validator(mode="after")
    def _is_one_kind(self) -> SloAxis:
        absolute = any(limit is not None for limit in (self.ttft_s, self.tpot_s, self.e2e_s))
        if bool(self.scale) + absolute + bool(self.limits) != 1:
            raise ValueError("give one of: scale, absolute limits (ttft, tpot, e2e), or a list of objectives")
        _once(tuple(self.all()))
        return self

    def all(self) -> list[Slo]:
        """Every objective, in the order given."""
        if self.limits:
            return list(self.limits)
        if self.scale:
            return [Slo(scale=scale, of=self.of) for scale in self.scale]
        return [Slo(ttft_s=self.ttft_s, tpot_s=self.tpot_s, e2e_s=self.e2e_s)]

    def planned(self) -> Slo:
        """The objective that plans are made for."""
        if self.plan is not None:
            return self.plan.model_copy(update={"of": self.of}) if self.plan.scale is not None else self.plan
        return self.all()[(len(self.all()) - 1) // 2]


class Wandb(Noun):
    """Weights & Biases: one run a cell, and one of the whole sweep."""

    mode: Literal["offline", "online", "disabled"] = "offline"
    project: str = "thunderserve"
    entity: str | None = None
    tags: tuple[str, ...] = ()


Names = Annotated[tuple[str, ...], BeforeValidator(_many), Field(min_length=1)]


class Sweep(Noun):
    """A grid of cells: systems x clusters x models x workloads x rates x seeds, judged at every SLO."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    description: str = ""
    backend: Annotated[
        tuple[Annotated[BackendChoice, BeforeValidator(_backend)], ...], BeforeValidator(_many), Field(min_length=1)
    ] = (BackendChoice(name=SIMULATED),)
    systems: Annotated[
        tuple[Annotated[SystemChoice, BeforeValidator(_system)], ...], BeforeValidator(_many), Field(min_length=1)
    ]
    clusters: Annotated[
        tuple[Annotated[ClusterChoice, BeforeValidator(_cluster)], ...], BeforeValidator(_many), Field(min_length=1)
    ]
    models: Names
    workloads: Annotated[
        tuple[Annotated[WorkloadChoice, BeforeValidator(_workload)], ...], BeforeValidator(_many), Field(min_length=1)
    ]
    gpu_catalogue: Annotated[tuple[Catalogue, ...], BeforeValidator(_many), Field(min_length=1)] = ("datasheet",)
    market: str | None = None
    """Whose prices: ``paper``, ``market`` or ``on_demand``; by default the first of these that a GPU's file knows."""
    costs: str = "roofline"
    """Where step times come from: ``roofline``, ``measured`` (an extra), or the path of a profile of your own."""
    codec_times: str | None = None
    """The path of a table of codec speeds, as ``harness bench codec --write`` makes it; without one, the paper's overheads."""
    arrivals: str | dict[str, Any] | None = None
    """For every workload of the list that does not give its own: ``replay``, or a mapping as ``{kind: gamma, cv: 2}``."""
    rate: (
        Annotated[
            Annotated[Annotated[tuple[PerSecond, ...], BeforeValidator(_many), Field(min_length=1)], Tag("list")]
            | Annotated[CapacityRate, Tag("search")],
            Discriminator(_rate_kind),
        ]
        | None
    ) = None
    """Requests a second; or ``{capacity: {attainment: 0.9}}`` to search the highest rate that holds. Omitted, a replay runs
    at its own pace; given, the replay is sped up or slowed down to that mean rate."""
    slo: Annotated[SloAxis, BeforeValidator(_slos)]
    requests: int | None = Field(default=1000, gt=0)
    """Offered in each cell. ``null``, for a replay, takes all that were recorded."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(_many), Field(min_length=1)] = (0,)
    model_context: Literal["drop", "keep"] = "drop"
    """What happens to requests longer than the model's context: dropped when the schedule is made (and counted), or kept."""
    attainment: float = Field(default=0.9, gt=0, lt=1)
    """Share of requests within the SLO that plans aim at."""
    metrics: Names = ("slo_attainment", "throughput", "ttft", "tpot", "e2e", "goodput", "cost")
    figures: Annotated[tuple[str, ...], BeforeValidator(_many)] = ()
    wandb: Wandb | None = None

    @property
    def search(self) -> CapacitySearch | None:
        """How capacity is searched; None when the rates are given."""
        return self.rate.capacity if isinstance(self.rate, CapacityRate) else None

    @property
    def rates(self) -> tuple[float | None, ...]:
        """The rates to serve at; a single None for a replay and for a capacity search."""
        return self.rate if isinstance(self.rate, tuple) else (None,)
