"""One figure, one file: ``TITLE``, and ``draw(result)`` that gives drawings with the tables of their points."""

from __future__ import annotations

import csv
import importlib
import importlib.util
import pkgutil
import warnings
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from harness.figures._drawing import Drawing, Point
    from harness.result import SweepResult

NEEDS = ("matplotlib", "pandas", "seaborn")
REMEDY = "pip install 'thunderserve[figures]'"


class FigureModule(Protocol):
    """What a file of this package defines."""

    TITLE: str

    def draw(self, result: SweepResult) -> list[Drawing]:
        """One drawing for each cluster, catalogue and model; none where the sweep has nothing to show."""


@cache
def names() -> tuple[str, ...]:
    """Every figure there is, by name."""
    found = (module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]))
    return tuple(sorted(name for name in found if not name.startswith("_")))


def load(name: str) -> FigureModule:
    """The module of one figure. Raises ValueError, with the names there are, for an unknown one."""
    if name not in names():
        raise ValueError(f"there is no figure {name!r}; choose from {', '.join(names())}")
    return cast("FigureModule", importlib.import_module(f"harness.figures.{name}"))


def missing() -> str:
    """Why figures cannot be drawn here, with the remedy; empty when they can."""
    absent = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    return f"figures need {', '.join(absent)}: {REMEDY}" if absent else ""


def draw_all(result: SweepResult, chosen: Iterable[str], folder: Path) -> list[Path]:
    """Draw the ``chosen`` figures into ``folder``; one PDF, PNG, SVG, CSV and caption each. Gives all files written.

    Without the ``figures`` extra it warns once and draws nothing. A figure that fails warns and leaves the others alone.
    """
    wanted = list(chosen) if result.cells else []
    if wanted and (reason := missing()):
        warnings.warn(reason, RuntimeWarning, stacklevel=2)
        return []
    written: list[Path] = []
    for name in wanted:
        try:
            written += _draw(result, name, folder)
        except Exception as error:  # a picture is no reason to lose a run
            warnings.warn(f"figure {name} could not be drawn: {error!r}", RuntimeWarning, stacklevel=2)
    return written


def _draw(result: SweepResult, name: str, folder: Path) -> list[Path]:
    from harness.figures._style import paper

    module = load(name)
    written: list[Path] = []
    with paper():
        for drawing in module.draw(result):
            stem = folder / (f"{name}-{drawing.variant}" if drawing.variant else name)
            written += save(drawing, stem)
    return written


def save(drawing: Drawing, stem: Path) -> list[Path]:
    """Write a drawing as ``stem`` with the endings .pdf, .png, .svg, .csv and .txt. Equal drawings are equal bytes."""
    from harness.figures._drawing import settle

    stem.parent.mkdir(parents=True, exist_ok=True)
    nameless: dict[str, dict[str, str | None]] = {
        ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
        ".png": {"Software": None},
        ".svg": {"Date": None, "Creator": None},
    }
    settle(drawing.figure)
    paths = []
    for ending, metadata in nameless.items():
        paths.append(stem.with_name(stem.name + ending))
        drawing.figure.savefig(paths[-1], metadata=metadata)
    paths.append(stem.with_name(f"{stem.name}.csv"))
    _write_points(paths[-1], drawing.points)
    paths.append(stem.with_name(f"{stem.name}.txt"))
    paths[-1].write_text(drawing.caption + "\n", encoding="utf-8")
    return paths


def _write_points(path: Path, points: list[Point]) -> None:
    columns = list(dict.fromkeys(column for point in points for column in point))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for point in points:
            row = [point.get(column) for column in columns]
            writer.writerow([f"{value:.9g}" if isinstance(value, float) else value for value in row])
