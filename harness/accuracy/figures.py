"""The pictures of a study: perplexity by codec, paired differences by task, and KV error by layer and head."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.accuracy.compare import Row
from harness.accuracy.study import REFERENCE
from harness.figures import _drawing, _style, missing
from harness.store import atomic, columns

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = {
    "raw": "#555555", "exact": "#999999", "lossless": "#117733", "fp8": "#44AA99", "int8": "#56B4E9", "int4": "#D55E00",
    "int4-rotated": "#E69F00", "int2": "#CC79A7",
}  # fmt: skip


def draw_all(rows: list[Row], folder: Path, origin: str) -> list[Path]:
    """Write every figure there is material for below ``folder``/figures, as PDF, PNG and SVG."""
    if reason := missing():
        warnings.warn(reason, RuntimeWarning, stacklevel=2)
        return []
    written: list[Path] = []
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    with _style.paper():
        for name, figure in _figures(rows, folder):
            figure.text(0.5, 0.004, origin, ha="center", va="bottom", fontsize=5, color="#777777")
            _drawing.settle(figure)
            for ending in ("pdf", "png", "svg"):
                path = folder / "figures" / f"{name}.{ending}"
                atomic.write_with(path, partial(figure.savefig, format=ending, metadata=_undated(ending)))
                written.append(path)
    return written


def _undated(kind: str) -> dict[str, None]:
    return {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind, {})


def _figures(rows: list[Row], folder: Path) -> Iterator[tuple[str, Figure]]:
    for model in dict.fromkeys(row.model for row in rows):
        own = [row for row in rows if row.model == model and row.codec != REFERENCE]
        if texts := [row for row in own if row.task == "perplexity"]:
            yield f"{model}-perplexity", _perplexity(texts)
        if scored := [row for row in own if row.task != "perplexity"]:
            yield f"{model}-differences", _differences(scored)
        errors = folder / "kv-error" / f"{model}.parquet"
        if errors.is_file():
            yield f"{model}-kv-error", _kv_error(columns.read(errors))


def _sheet(height_in: float, width_in: float = _style.COLUMN_IN) -> Figure:
    """An empty figure that keeps a line free at its foot, for what it comes from."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.set(rect=(0, 0.12 / height_in, 1, 1 - 0.12 / height_in))  # type: ignore[call-arg]
    return figure


def _perplexity(rows: list[Row]) -> Figure:
    """How much less likely the text becomes: the ratio of perplexities, a codec a dot, on a logarithmic axis."""
    figure = _sheet(0.75 + 0.22 * len(rows))
    axes = figure.subplots()
    beside = axes.get_yaxis_transform()
    for place, row in enumerate(rows):
        low, high = row.difference.interval or (row.difference.value, row.difference.value)
        color = COLORS.get(row.codec, "#333333")
        axes.plot([100 * (low - 1), 100 * (high - 1)], [place, place], color=color, linewidth=2)
        axes.plot(100 * (row.difference.value - 1), place, "o", color=color, markersize=5)
        words = f"{100 * (row.difference.value - 1):+.2f} %\nKL {row.kl.value:.2g}"
        axes.text(1.03, place, words, transform=beside, va="center", fontsize=6)
    axes.set_yticks(range(len(rows)), [f"{row.codec}\n{100 * row.wire:.0f} % of bytes" for row in rows], fontsize=6)
    axes.invert_yaxis()
    axes.axvline(0, color="#555555", linewidth=0.8)
    axes.set_xscale("symlog", linthresh=0.1)
    axes.margins(x=0.08, y=0.25)
    ticks = [-100.0, -10.0, -1.0, -0.1, 0.0, 0.1, 1.0, 10.0, 100.0, 1000.0]
    left, right = axes.get_xlim()
    axes.set_xticks([tick for tick in ticks if left <= tick <= right])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel(f"change of perplexity, %  (16 bit: {rows[0].reference.value:.1f})")
    return figure


def _differences(rows: list[Row]) -> Figure:
    """Paired differences by task and metric with their intervals, a colour a codec."""
    places = list(dict.fromkeys((row.task, row.metric) for row in rows))
    codecs = list(dict.fromkeys(row.codec for row in rows))
    figure = _sheet(0.9 + 0.16 * len(places) * max(len(codecs), 2), _style.TEXT_IN * 0.75)
    axes = figure.subplots()
    step = 0.7 / max(len(codecs), 1)
    for row in rows:
        y = places.index((row.task, row.metric)) + (codecs.index(row.codec) - (len(codecs) - 1) / 2) * step
        low, high = row.difference.interval or (math.nan, math.nan)
        color = COLORS.get(row.codec, "#333333")
        axes.plot([low, high], [y, y], color=color, linewidth=1.6)
        axes.plot(row.difference.value, y, "o", color=color, markersize=4, label=row.codec)
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(list(unique.values()), list(unique), loc="outside upper center", ncols=len(unique))
    axes.set_yticks(range(len(places)), [f"{task}, {metric}" for task, metric in places])
    axes.invert_yaxis()
    axes.axvline(0, color="#555555", linewidth=0.8)
    axes.set_xlabel("difference from 16 bit, points of 100 (95 % interval)")
    return figure


def _kv_error(table: columns.Columns) -> Figure:
    """Relative error of keys and values by layer (down) and head (across), a column a codec."""
    from matplotlib.colors import LogNorm

    codecs = list(dict.fromkeys(str(name) for name in table["codec"]))
    figure = _sheet(3.9, _style.TEXT_IN)
    panels = figure.subplots(2, len(codecs), squeeze=False, sharex=True, sharey=True)
    smallest = max(float(np.min([table["keys"].min(), table["values"].min()])), 1e-5)
    norm = LogNorm(smallest, float(max(table["keys"].max(), table["values"].max())))
    image = None
    for column, codec in enumerate(codecs):
        own = np.array([str(name) == codec for name in table["codec"]])
        layers, heads = int(table["layer"][own].max()) + 1, int(table["head"][own].max()) + 1
        for row, what in enumerate(("keys", "values")):
            panel = panels[row][column]
            error = table[what][own].reshape(layers, heads)
            image = panel.imshow(error, aspect="auto", cmap="viridis", norm=norm, interpolation="nearest")
            panel.grid(visible=False)
            panel.set_title(f"{codec}\n{what} {100 * error.mean():.2g} %", fontsize=7)
            panel.set_xticks(range(heads))
            if column == 0:
                panel.set_ylabel("layer")
            if row == 1:
                panel.set_xlabel("KV head")
    if image is not None:
        figure.colorbar(image, ax=panels, label="relative error", shrink=0.8)
    return figure
