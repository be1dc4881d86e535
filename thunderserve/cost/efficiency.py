"""Efficiency curves of a GPU: what share of its peak each kind of kernel reaches, as a function of its size.

Every curve is relative to the peaks of the ``Gpu`` it is applied to, so the same curve serves both catalogues and every
card of a family. The constants are fitted to public measurements; ``configs/efficiency/*.yaml`` says which, and how well.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field

from thunderserve.spec.catalogue import find, names
from thunderserve.spec.document import read, validate
from thunderserve.spec.errors import SpecError, nearest
from thunderserve.spec.gpu import Gpu
from thunderserve.spec.noun import Noun
from thunderserve.spec.units import Seconds


class MatmulCurve(Noun):
    """A matrix product of ``m x k`` by ``k x n``.

    ``latency + (C**p + B**p) ** (1/p)`` with ``p = overlap``, ``C = 2 k (m n + ramp) / (share * flops)`` and
    ``B = bytes / (share * bandwidth)``: the roofline with a rounded knee. ``ramp`` is the part of the last wave of tiles
    that idles, so small outputs reach a smaller share of the peak.
    """

    latency_s: Seconds
    compute_share: float = Field(gt=0, le=1)
    ramp_elements: float = Field(ge=0)
    memory_share: float = Field(gt=0, le=1)
    overlap: float = Field(ge=1)


class PrefillAttentionCurve(Noun):
    """Causal attention of chunks of ``l`` new tokens after ``c`` by ``h`` heads, as kernels tile it (FlashAttention).

    A thread block computes ``tile_rows`` queries of one head against all keys they see. On average half of a chunk's last
    tile is empty, so a chunk has ``R = h * (l + tile_rows / 2)`` rows; the ``processors`` take ``processors * tile_rows`` rows at
    a time, and fewer rows take as long. Each row meets ``c + (l + 1) / 2`` keys, and every block pays for ``start_keys`` more:
    its start, and the masked half of its last tile. One launch takes

        latency + 4 head_dim * (max(sum of R, processors * tile_rows) * keys + sum of R * start_keys) / (share * flops)
                + bytes of Q, K, V, output and cache writes beyond ``cache_bytes`` / (memory_share * bandwidth)
    """

    latency_s: Seconds
    compute_share: float = Field(gt=0, le=1)
    start_keys: float = Field(ge=0)
    memory_share: float = Field(gt=0)
    processors: int = Field(gt=0)
    """Streaming multiprocessors of the card, or of the family's largest."""
    tile_rows: int = Field(gt=0)
    """Queries a thread block: 128 on the large dies of data centres, 64 elsewhere (FlashAttention 2 and 3, 128-wide heads)."""
    cache_bytes: float = Field(default=0.0, ge=0)
    """Of the values moved, what stays in the L2 cache and costs nothing more."""


class DecodeAttentionCurve(Noun):
    """One query a sequence: ``latency + bytes of (keys + pad * sequences) / (share * bandwidth)``.

    What a new token moves itself (Q, output, cache write) stands in ``PrefillAttentionCurve``, for both phases.
    """

    latency_s: Seconds
    memory_share: float = Field(gt=0)
    pad_tokens: float = Field(ge=0)


class ElementwiseCurve(Noun):
    """A small kernel that reads and writes a few values a token.

    ``latency + first cache_bytes / (cache_share * bandwidth) + the other bytes / (memory_share * bandwidth)``.
    """

    latency_s: Seconds
    memory_share: float = Field(gt=0)
    """Above 1 where the values still lie in the L2 cache."""
    cache_bytes: float = Field(default=0.0, ge=0)
    """What a large L2 cache still holds from the kernel before."""
    cache_share: float = Field(default=1.0, gt=0)


class ElementwiseCurves(Noun):
    """One curve a kind, for their kernels differ by a factor of three in the bandwidth they reach."""

    norm: ElementwiseCurve
    rotary: ElementwiseCurve
    activation: ElementwiseCurve
    copy_add: ElementwiseCurve
    """Residual additions, cache writes, embedding look-ups."""


class Efficiency(Noun):
    """All curves of a GPU type or of an architecture family."""

    name: str
    matmul: MatmulCurve
    prefill_attention: PrefillAttentionCurve
    decode_attention: DecodeAttentionCurve
    elementwise: ElementwiseCurves
    inherits: str = ""
    """The file whose curves this one takes over where it has none of its own."""
    source: str
    """What was measured, by whom, and what was left out of the fit."""


def efficiency_of(gpu: Gpu) -> Efficiency:
    """The curves of ``gpu``: ``configs/efficiency/<name>.yaml``, else its family's. SpecError if neither exists."""
    known = [name.lower() for name in names("efficiency")]
    for name in (gpu.name, gpu.family):
        if name.lower() in known:
            return load_efficiency(name)
    raise SpecError(
        f"no efficiency curves for {gpu.name} of family {gpu.family}",
        remedy=f"add configs/efficiency/{gpu.name}.yaml, or name a family that has a file; {nearest(gpu.family, known)}",
    )


def load_efficiency(name: str) -> Efficiency:
    """Read an efficiency file, and what it inherits, by name. Raises SpecError, naming file, line and key."""
    return read_efficiency(find("efficiency", name))


@cache
def read_efficiency(path: Path) -> Efficiency:
    """The same, by path. What a file inherits is looked for beside it, and then among the shipped ones."""
    return validate(Efficiency, _merged(path, ()) | {"name": path.stem}, file=path)


def _merged(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """The mapping of a file laid over the one it inherits."""
    own: dict[str, Any] = dict(read(path))
    parent = own.get("inherits", "")
    if not parent:
        return own
    if path in seen:
        raise SpecError("inherits itself", file=path, key="inherits", value=parent)
    beside = path.with_name(f"{parent}.yaml")
    inherited = _merged(beside if beside.is_file() else find("efficiency", parent), (*seen, path))
    return inherited | own
