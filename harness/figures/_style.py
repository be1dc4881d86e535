"""The look of every figure: column widths of a systems paper, 8 pt, one colour, marker and dash a system."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

from harness.sweep.backends import SIMULATED

COLUMN_IN = 3.25
TEXT_IN = 6.75

RC: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "thunderserve",
    "axes.linewidth": 0.6,
    "axes.edgecolor": "#333333",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.2,
    "lines.markeredgewidth": 1.0,
    "hatch.linewidth": 0.5,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "legend.columnspacing": 1.4,
    "figure.dpi": 100,
    "savefig.dpi": 300,
    "path.simplify": True,
}

# Okabe and Ito's colours, then Tol's, without the yellows that vanish on paper.
_KNOWN = {
    "vllm": ("#0072B2", "o"),
    "distserve": ("#009E73", "s"),
    "thunderserve": ("#D55E00", "D"),
    "hexgen": ("#CC79A7", "^"),
    "hexgen2": ("#E69F00", "v"),
    "splitwise": ("#56B4E9", "P"),
    "helix": ("#555555", "X"),
    "alpa": ("#999933", "<"),
    "alpaserve": ("#999933", "<"),
    "sarathi": ("#332288", ">"),
}
_FREE = ("#882255", "#44AA99", "#AA4499", "#661100", "#6699CC", "#117733", "#888888", "#DDAA33")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">", "p", "h", "*")
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.2)), (0, (1.2, 1.2)), (0, (5, 1.2, 1.2, 1.2)), (0, (7, 2)))
_SHADES = (0.0, 0.45, -0.35, 0.65, -0.6)


class Look(NamedTuple):
    """How one system is drawn, in every figure."""

    color: str
    marker: str
    dash: Any


def looks(systems: Iterable[tuple[str, str]]) -> dict[str, Look]:
    """Label -> look for (label, family) pairs. A family keeps its colour wherever it appears; its variants are shades of it.

    A family nobody knew has a slot by the hash of its name, so that it keeps it too; the next free one if two collide.
    """
    pairs = sorted(set(systems))
    families = sorted({family for _, family in pairs})
    base = dict(zip(families, _bases(families), strict=True))
    found = {}
    for family in families:
        variants = [label for label, owner in pairs if owner == family]
        color, marker = base[family]
        first = MARKERS.index(marker)
        for index, label in enumerate(variants):
            shade = _shaded(color, _SHADES[index % len(_SHADES)])
            found[label] = Look(shade, MARKERS[(first + index) % len(MARKERS)], DASHES[index % len(DASHES)])
    return found


def _bases(families: list[str]) -> Iterator[tuple[str, str]]:
    taken: set[int] = set()
    for family in families:
        if family in _KNOWN:
            yield _KNOWN[family]
            continue
        slot = int.from_bytes(hashlib.sha256(family.encode()).digest()[:4], "big") % len(_FREE)
        while slot in taken and len(taken) < len(_FREE):
            slot = (slot + 1) % len(_FREE)
        taken.add(slot)
        yield _FREE[slot], MARKERS[slot]


def _shaded(color: str, amount: float) -> str:
    """Towards white for a positive ``amount``, towards black for a negative one."""
    channels = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    target = 255 if amount > 0 else 0
    return "#" + "".join(f"{round(value + (target - value) * abs(amount)):02x}" for value in channels)


def face(color: str, backend: str) -> str:
    """What a marker is filled with: hollow where simulated, full where measured."""
    return "white" if backend == SIMULATED else color


def bar(color: str, backend: str) -> dict[str, Any]:
    """How a bar is filled: pale and outlined where simulated, full where measured."""
    pale = _shaded(color, 0.55) if backend == SIMULATED else color
    return {"facecolor": pale, "edgecolor": color, "linewidth": 0.8}


@contextmanager
def paper() -> Iterator[None]:
    """Matplotlib set up as above, and quiet about what seaborn 0.13 still calls; everything as it was afterwards."""
    import warnings

    import matplotlib as mpl

    with mpl.rc_context(cast("Any", RC)), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*copy keyword.*")
        warnings.filterwarnings("ignore", message=".*vert: bool.*")
        yield
