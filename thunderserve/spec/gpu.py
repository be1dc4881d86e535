"""A GPU type: what one card can hold and do, and what an hour of it costs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from thunderserve.spec.noun import Noun
from thunderserve.spec.units import Bytes, BytesPerSecond, Flops, Seconds, UsdPerHour

Catalogue = Literal["datasheet", "paper"]


class Gpu(Noun):
    """A GPU *type*, as one catalogue describes it."""

    name: str = Field(min_length=1)
    family: str
    """Architecture family, e.g. ``ampere-ga102``; decides which efficiency curves apply."""
    memory_bytes: Bytes = Field(gt=0)
    memory_bytes_per_s: BytesPerSecond
    flops: Flops
    """Peak 16-bit FLOP/s. Dense tensor rate in data sheets; the paper's Table 1 mixes tensor and shader rates."""
    price_per_hour: UsdPerHour
    catalogue: Catalogue = "datasheet"
    fabric_bytes_per_s: BytesPerSecond = 32e9
    """Per direction, to another card of the same node (PCIe, or NVLink where ``fabric`` says so)."""
    fabric: Literal["pcie3", "pcie4", "pcie5", "nvlink"] = "pcie4"
    fabric_latency_s: Seconds = 10e-6
    bridge_bytes_per_s: BytesPerSecond | None = None
    """Per direction over an NVLink bridge between two neighbouring cards, for cards that can have one."""


class CatalogueEntry(Noun):
    """The figures of one source."""

    memory_bytes: Bytes | None = None
    memory_bytes_per_s: BytesPerSecond | None = None
    flops: Flops | None = None
    source: str


class Price(Noun):
    """What an hour cost, where and when."""

    price_per_hour: UsdPerHour
    date: str
    source: str


class GpuFile(Noun):
    """``configs/gpus/<name>.yaml``: one type, in both catalogues, with sources."""

    name: str
    family: str
    fabric: Literal["pcie3", "pcie4", "pcie5", "nvlink"]
    fabric_bytes_per_s: BytesPerSecond
    fabric_latency_s: Seconds
    bridge_bytes_per_s: BytesPerSecond | None = None
    datasheet: CatalogueEntry
    paper: CatalogueEntry | None = None
    prices: dict[str, Price] = Field(min_length=1)
    """By market: ``paper`` (its Table 1), ``on_demand`` (a large cloud), ``market`` (a GPU market place)."""
    notes: str = ""

    @model_validator(mode="after")
    def _is_whole(self) -> GpuFile:
        sheet = self.datasheet
        if None in (sheet.memory_bytes, sheet.memory_bytes_per_s, sheet.flops):
            raise ValueError("datasheet must give memory, memory_bandwidth and flops; only 'paper' may leave some out")
        return self

    def gpu(self, catalogue: Catalogue, market: str | None = None) -> Gpu:
        """The type as ``catalogue`` has it; a figure the paper does not print is the data sheet's.

        The price is ``market``'s, or else the first of paper, market, on_demand that is known, or else any. Raises
        KeyError for a market the file does not have.
        """
        sheet, printed = self.datasheet, self.paper if catalogue == "paper" else None

        def figure(name: str) -> float | None:
            value: float | None = getattr(printed, name) if printed is not None else None
            return value if value is not None else getattr(sheet, name)

        known = [name for name in ("paper", "market", "on_demand") if name in self.prices]
        order = [market] if market else [*known, *self.prices]
        return Gpu.model_validate(
            {name: figure(name) for name in ("memory_bytes", "memory_bytes_per_s", "flops")}
            | {name: getattr(self, name) for name in ("name", "family", "fabric", "fabric_bytes_per_s")}
            | {"fabric_latency_s": self.fabric_latency_s, "bridge_bytes_per_s": self.bridge_bytes_per_s}
            | {"price_per_hour": self.prices[order[0]].price_per_hour, "catalogue": catalogue}
        )
