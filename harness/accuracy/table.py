"""The table of a study: in a terminal, as Markdown, and as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.text import Text

from harness.accuracy.compare import Mean, Row, macro_loss
from harness.accuracy.study import REFERENCE

PAPER = (("CoQA", 63.95, 64.58), ("TruthfulQA", 30.64, 30.13), ("GSM8K", 13.23, 12.54))
"""ThunderServe (MLSys 2025), LLaMA-7B, 16 bit and 4 bit: quoted at second hand, not measured here."""
HEADINGS = (
    "model", "task", "metric", "n", "codec", "score", "difference [95 %]", "same output", "|change| nats/token",
    "KL nats/token", "bytes",
)  # fmt: skip
SHOWN = {"codec": "codec", "score": "score ± se", "difference [95 %]": "difference [95 %]", "same output": "same",
         "KL nats/token": "KL", "bytes": "bytes"}  # fmt: skip
"""Column -> its heading in a terminal of 80 characters; what is the same for all lines of a group stands above them."""

LEGEND = (
    "score ± standard error, in points of 100; difference: from 16 bit, question by question (perplexity: ratio), and the "
    "95 % interval of a bootstrap over questions (CoQA: over conversations); average: of each task's first metric, "
    "TruthfulQA's tasks as one; same: outputs equal to those at 16 bit; KL: from 16 bit, nats a token; "
    "bytes: on the wire, of those at 16 bit"
)


def print_rows(rows: list[Row], console: Console) -> None:
    """A table a model, the mean losses, and the paper's figures."""
    for model in dict.fromkeys(row.model for row in rows):
        for line in _lines([row for row in rows if row.model == model]):
            console.print(line, highlight=False)
        console.print()
    for words in closing(rows):
        console.print(words, highlight=False)


def _lines(rows: list[Row]) -> Iterator[Text]:
    """One model's table: a heading for each task and metric, a line a codec below it."""
    numbers = [HEADINGS.index(name) for name in SHOWN]
    lines = [[cells(row)[number] for number in numbers] for row in rows]
    widths = [max(map(len, column)) for column in zip(SHOWN.values(), *lines, strict=True)]
    yield Text(f"Accuracy with compressed KV: {rows[0].model}", style="bold")
    yield Text(_spread(list(SHOWN.values()), widths), style="dim")
    for group in grouped(rows):
        first = group[0]
        name = ", ".join(dict.fromkeys((first.task, first.metric)))
        yield Text(f"\n{name}", style="bold").append(f"  {_asked(first)}", style="dim")
        for row in group:
            yield Text(_spread([cells(row)[number] for number in numbers], widths))


def _spread(words: list[str], widths: list[int]) -> str:
    first, *others = (
        word.ljust(width) if not place else word.rjust(width)
        for place, (word, width) in enumerate(zip(words, widths, strict=True))
    )
    return "  ".join([f" {first}", *others]).rstrip()


def _asked(row: Row) -> str:
    what = "pieces of text" if row.task == "perplexity" else "questions"
    return f"{row.questions} {what}" + (f" in {row.groups} groups" if row.groups < row.questions else "")


def grouped(rows: Iterable[Row]) -> list[list[Row]]:
    """The rows of each model, task and metric together, each with its codecs in the study's order."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.model, row.task, row.metric), []).append(row)
    return list(groups.values())


def cells(row: Row) -> list[str]:
    """One row, in words, under ``HEADINGS``."""
    reference = row.codec == REFERENCE
    return [
        row.model, row.task, row.metric, str(row.questions), "16 bit" if reference else row.codec,
        plus_minus(row.score), "" if reference else span(row.difference, "×" if row.task == "perplexity" else ""),
        "" if reference or math.isnan(row.identical) else f"{100 * row.identical:.0f} %",
        "" if reference else f"{row.shift.value:.2g}", "" if reference else f"{row.kl.value:.2g}",
        "100 %" if reference else f"{100 * row.wire:.1f} %",
    ]  # fmt: skip


def plus_minus(mean: Mean) -> str:
    """``42.1 ± 2.0``: a standard error."""
    return f"{mean.value:.2f}" + ("" if math.isnan(mean.error) else f" ± {mean.error:.2f}")


def span(mean: Mean, sign: str) -> str:
    """``-0.40 [-1.21, +0.33]``, or ``×1.0022 [1.0011, 1.0043]`` for a ratio.

    Where no group differs from another, resampling finds no spread: the words say so, as an interval without width would
    claim to be certain.
    """
    form = ".4f" if sign else "+.2f"
    low, high = mean.interval or (mean.value, mean.value)
    words = f"{low:{form}}, {high:{form}}" if low != high else "no spread"
    return f"{sign}{mean.value:{form}} [{words}]"


def closing(rows: list[Row]) -> list[str]:
    """What stands under the table."""
    lines = []
    for model in dict.fromkeys(row.model for row in rows):
        own = [row for row in rows if row.model == model]
        for codec in dict.fromkeys(row.codec for row in own):
            loss = macro_loss(own, codec)
            if loss is not None and loss.interval is not None:
                low, high = (-end for end in reversed(loss.interval))
                lines.append(
                    f"{model}, {codec}: {-loss.value:+.2f} points [{low:+.2f}, {high:+.2f}] on average over data sets"
                )
    quoted = "; ".join(f"{task} {raw} / {coded}" for task, raw, coded in PAPER)
    return [
        *lines,
        LEGEND,
        "quoted, not measured here: the paper's LLaMA-7B at 16 / 4 bit, loss below 2 %",
        f"  {quoted}",
    ]


def markdown(rows: list[Row]) -> str:
    """The table as Markdown."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    ordered = (row for group in grouped(rows) for row in group)
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in cells(row)) + " |" for row in ordered]
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
