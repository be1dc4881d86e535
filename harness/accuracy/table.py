"""The table of a study: in a terminal, as Markdown, and as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from harness.accuracy.compare import Mean, Row, macro_loss
from harness.accuracy.study import REFERENCE

PAPER = (("CoQA", 63.95, 64.58), ("TruthfulQA", 30.64, 30.13), ("GSM8K", 13.23, 12.54))
"""ThunderServe (MLSys 2025), LLaMA-7B, 16 bit and 4 bit: quoted at second hand, not measured here."""
PAPER_WORDS = (
    "paper, LLaMA-7B, 16 bit / 4 bit (quoted, not measured here): "
    + "; ".join(f"{task} {raw} / {coded}" for task, raw, coded in PAPER)
    + "; loss below 2 % on all tasks"
)
HEADINGS = (
    "model", "task", "metric", "n", "codec", "score", "difference, 95 %", "same answer", "|change| nats/token",
    "KL nats/token", "wire",
)  # fmt: skip


def print_rows(rows: list[Row], console: Console) -> None:
    """The table, the mean losses, and the paper's figures."""
    table = Table(title="Accuracy with compressed KV", title_justify="left", header_style="bold")
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in ("model", "task", "metric", "codec") else "right")
    last: tuple[str, ...] = ()
    for row in rows:
        key = (row.model, row.task, row.metric)
        if last and key[:2] != last[:2]:
            table.add_section()
        table.add_row(*(cells(row) if key != last else ["", "", "", "", *cells(row)[4:]]))
        last = key
    console.print(table)
    for words in closing(rows):
        console.print(words, highlight=False)


def cells(row: Row) -> list[str]:
    """One row, in words."""
    reference = row.codec == REFERENCE
    return [
        row.model, row.task, row.metric, str(row.questions), "16 bit" if reference else row.codec,
        plus_minus(row.score), "" if reference else span(row.difference, "×" if row.task == "perplexity" else ""),
        "" if reference or math.isnan(row.identical) else f"{100 * row.identical:.0f} %",
        "" if reference else f"{row.shift.value:.4f}", "" if reference else f"{row.kl.value:.4f}",
        "100 %" if reference else f"{100 * row.wire:.1f} %",
    ]  # fmt: skip


def plus_minus(mean: Mean) -> str:
    """``42.1 ± 2.0``: a standard error."""
    return f"{mean.value:.2f}" + ("" if math.isnan(mean.error) else f" ± {mean.error:.2f}")


def span(mean: Mean, sign: str) -> str:
    """``-0.4 (-1.2 to +0.3)``, or ``×1.002 (1.001 to 1.004)`` for a ratio."""
    low, high = mean.interval or (float("nan"), float("nan"))
    if sign:
        return f"{sign}{mean.value:.4f} ({low:.4f} to {high:.4f})"
    return f"{mean.value:+.2f} ({low:+.2f} to {high:+.2f})"


def closing(rows: list[Row]) -> list[str]:
    """What stands under the table."""
    lines = []
    for model in dict.fromkeys(row.model for row in rows):
        own = [row for row in rows if row.model == model]
        for codec in dict.fromkeys(row.codec for row in own):
            loss = macro_loss(own, codec)
            if loss is not None and loss.interval is not None:
                lines.append(
                    f"{model}: {codec} loses {loss.value:.2f} points on average over its tasks' first metrics "
                    f"(95 % interval {loss.interval[0]:+.2f} to {loss.interval[1]:+.2f}; the paper: below 2 %)"
                )
    return [
        *lines,
        "score ± standard error in points of 100; differences question by question against 16 bit, bootstrap over questions "
        "(CoQA: over conversations)",
        PAPER_WORDS,
    ]


def markdown(rows: list[Row]) -> str:
    """The table as Markdown."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in cells(row)) + " |" for row in rows]
    lines[0] = lines[0].replace("|change|", "abs. change")
    return "\n".join([*lines, "", *(f"{words}\n" for words in closing(rows))])


def as_csv(rows: Iterable[Row]) -> str:
    """Every number, unrounded."""
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    means = ("score", "reference", "difference", "shift", "kl")
    plain = ("model", "task", "metric", "codec", "questions", "groups", "identical", "wire")
    table.writerow([*plain, *(f"{name}{part}" for name in means for part in ("", "_se", "_low", "_high"))])
    for row in rows:
        values: list[object] = [getattr(row, name) for name in plain]
        for name in means:
            mean: Mean = getattr(row, name)
            values += [mean.value, mean.error, *(mean.interval or ("", ""))]
        table.writerow([f"{value:.6g}" if isinstance(value, float) else value for value in values])
    return stream.getvalue()
