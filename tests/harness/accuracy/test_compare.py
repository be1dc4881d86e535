"""Rows of the table from made-up answers whose figures are known."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from rich.console import Console

from eval.contract import Answer
from harness.accuracy import journal, keep, table
from harness.accuracy.compare import Mean, Row, macro_loss, rows
from harness.accuracy.units import Unit

CODECS = ("raw", "int4")
Make = Callable[..., list[Row]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """The rows of answers that are journalled and made into cells as a run does."""

    def give(task: str, *answers: Answer, seeds: tuple[int, ...] = (0,)) -> list[Row]:
        units = [Unit("models/tiny", task, None, seed, 1, CODECS, f"{task}-{seed}") for seed in seeds]
        for unit in units:
            path = keep.journal_of(tmp_path, unit)
            path.parent.mkdir(exist_ok=True)
            with path.open("w", encoding="utf-8") as stream:
                journal.append(stream, answers)
            keep.finish(tmp_path, unit)
        return rows(tmp_path, units)

    return give


def pair(question: int, raw: dict[str, Any], coded: dict[str, Any], **both: Any) -> tuple[Answer, Answer]:
    common = {"loglikelihoods": (-1.0,), "continuation_tokens": (1,), "kl": 0.0, "raw_bytes": 100, "wire_bytes": 100}
    kinds = (("raw", raw), ("int4", coded))
    first, second = (Answer(question, codec, **common | both | own) for codec, own in kinds)
    return first, second


def coqa(question: int, raw: float, coded: float, group: str = "", said: tuple[str, str] = ("x", "x")) -> Any:
    sides = [
        {"scores": {"em": value, "f1": value}, "output": text} for value, text in zip((raw, coded), said, strict=True)
    ]
    return pair(question, sides[0], sides[1], group=group or str(question))


def test_differences_are_paired_and_scaled_to_points(make: Make) -> None:
    found = make("coqa", *coqa(0, 1, 1), *coqa(1, 0, 1), *coqa(2, 1, 0, said=("yes", "no")), *coqa(3, 1, 0))
    row = next(row for row in found if (row.codec, row.metric) == ("int4", "exact match"))
    assert (row.model, row.questions, row.groups) == ("tiny", 4, 4)
    assert (row.score.value, row.reference.value, row.difference.value) == (50, 75, -25)
    # Differences 0, 1, -1, -1: mean -1/4, sum of squares 3 - 4/16, over 3 and 4.
    assert row.difference.error == pytest.approx(100 * math.sqrt((3 - 4 / 16) / 3 / 4))
    assert row.identical == 0.75
    raw = next(row for row in found if row.codec == "raw")
    assert (raw.difference.value, raw.identical, raw.kl.value, raw.wire) == (0, 1, 0, 1)


def test_the_turns_of_a_conversation_are_one_group(make: Make) -> None:
    answers = [coqa(i, 1, float(i < 6), group=f"story{i // 6}#{i % 6 + 1}") for i in range(12)]
    found = make("coqa", *(answer for both in answers for answer in both))
    row = next(row for row in found if row.codec == "int4")
    assert (row.questions, row.groups) == (12, 2)
    # Two groups whose differences are 0 and -100: a resampled mean is -100, -50 or 0.
    assert row.difference.value == -50
    assert row.difference.interval == (-100, 0)
    assert row.difference.error == pytest.approx(50)


def test_the_same_questions_under_two_seeds_are_no_new_evidence(make: Make) -> None:
    answers = [answer for i in range(8) for answer in coqa(i, 1, float(i % 3 > 0))]
    once, twice = make("coqa", *answers), make("coqa", *answers, seeds=(0, 1))
    a, b = (next(row for row in found if row.codec == "int4") for found in (once, twice))
    assert (a.questions, b.questions, b.groups) == (8, 16, 8)
    assert b.difference.value == a.difference.value
    assert b.difference.error == pytest.approx(a.difference.error)


def test_perplexity_is_compared_by_its_ratio(make: Make) -> None:
    losses = [(2.0, 2.1), (3.0, 3.3), (1.0, 1.05)]
    sides = [
        pair(i, {"loglikelihoods": (-4 * a,)}, {"loglikelihoods": (-4 * b,), "kl": b - a}, continuation_tokens=(4,), group=str(i))
        for i, (a, b) in enumerate(losses)
    ]  # fmt: skip
    raw, coded = make("perplexity", *(answer for both in sides for answer in both))
    assert raw.score.value == pytest.approx(math.exp(2.0))
    assert coded.score.value == pytest.approx(math.exp((2.1 + 3.3 + 1.05) / 3))
    assert coded.difference.value == pytest.approx(math.exp(0.45 / 3))
    assert coded.shift.value == pytest.approx(0.45 / 3)
    assert coded.kl.value == pytest.approx(0.45 / 3)
    low, high = coded.difference.interval or (0, 0)
    assert math.exp(0.05) <= low < coded.difference.value < high <= math.exp(0.3)
    assert math.isnan(coded.identical), "nothing is said and nothing chosen"


def test_agreement_on_choices_is_the_same_likeliest_choice(make: Make) -> None:
    chosen = [((-1, -2), (-1, -3)), ((-1, -2), (-3, -2)), ((-2, -1), (-2, -1.5)), ((-2, -1), (-4, -3))]
    sides = [
        pair(i, {"loglikelihoods": a}, {"loglikelihoods": b}, scores={"acc": 1.0}, continuation_tokens=(2, 3), group=str(i))
        for i, (a, b) in enumerate(chosen)
    ]  # fmt: skip
    row = make("truthfulqa_mc1", *(answer for both in sides for answer in both))[1]
    assert row.identical == 0.75
    # |changes| 0+1, 2+0, 0+0.5, 2+2 of 5 tokens each.
    assert row.shift.value == pytest.approx((1 + 2 + 0.5 + 4) / 5 / 4)


def test_bytes_are_summed_before_they_are_divided(make: Make) -> None:
    sizes = [(1000, 400), (10, 9)]
    sides = [
        pair(i, {"raw_bytes": raw, "wire_bytes": raw}, {"raw_bytes": raw, "wire_bytes": sent}, group=str(i))
        for i, (raw, sent) in enumerate(sizes)
    ]
    assert make("perplexity", *(answer for both in sides for answer in both))[1].wire == pytest.approx(409 / 1010)


def test_codecs_that_answered_other_questions_are_not_compared(make: Make) -> None:
    answers = [answer for i in range(3) for answer in coqa(i, 1, 1)]
    with pytest.raises(ValueError, match="int4 and raw did not answer the same questions"):
        make("coqa", *answers[:-1])


def row(task: str, metric: str, codec: str, loss: float, error: float, **more: Any) -> Row:
    nothing = Mean(0.01234, 0.001, (0.01, 0.015))
    values: dict[str, Any] = {
        "model": "tiny", "task": task, "metric": metric, "codec": codec, "questions": 20, "groups": 20,
        "score": Mean(50 - loss, 4.0, (42, 58)), "reference": Mean(50, 4.0, (42, 58)),
        "difference": Mean(-loss, error, (-loss - 2 * error, -loss + 2 * error)), "identical": 0.85, "shift": nothing,
        "kl": nothing, "wire": 0.305,
    }  # fmt: skip
    return Row(**values | more)


def test_the_mean_loss_counts_a_data_set_once() -> None:
    found = [
        row("coqa", "exact match", "int4", 3.0, 0.6),
        row("coqa", "F1", "int4", 99.0, 99.0),  # not the task's first metric
        row("truthfulqa_mc1", "accuracy", "int4", 1.0, 0.5),
        row("truthfulqa_mc2", "accuracy", "int4", 2.0, 1.1),
        row("perplexity", "perplexity", "int4", -1.002, 0.001),  # a ratio has no points
    ]
    loss = macro_loss(found, "int4")
    assert loss is not None
    assert loss.value == pytest.approx((3.0 + 1.5) / 2)
    assert loss.error == pytest.approx(math.hypot(0.6, 0.8) / 2)  # = 0.5
    assert loss.interval == pytest.approx((2.25 - 0.98, 2.25 + 0.98))
    assert macro_loss(found, "raw") is None
    assert macro_loss(found, "int2") is None


STUDIED = [
    row(task, metric, codec, loss, 1.0, groups=groups)
    for task, metrics, groups in (("coqa", ("exact match", "F1"), 4), ("truthfulqa_gen", ("ROUGE-L accuracy",), 20))
    for codec, loss in (("raw", 0.0), ("int4-rotated", 0.5), ("int2", 12.25))
    for metric in metrics
]


def printed(found: list[Row], width: int) -> list[str]:
    console = Console(width=width, force_terminal=False, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    table.print_rows(found, console)
    return console.export_text().splitlines()


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_shows_a_line_a_codec_below_its_task_and_metric(width: int) -> None:
    lines = printed(STUDIED, width)
    assert max(map(len, lines)) <= width
    assert lines[0] == "Accuracy with compressed KV: tiny"
    start = lines.index("coqa, F1  20 questions in 4 groups")
    assert [line.split()[0] for line in lines[start + 1 : start + 4]] == ["16", "int4-rotated", "int2"]
    assert " ".join(lines[start + 3].split()) == "int2 37.75 ± 4.00 -12.25 [-14.25, -10.25] 85 % 0.012 30.5 %"
    assert len({len(line) for line in lines[start + 1 : start + 4]}) == 1, "the last column is in line"
    assert "truthfulqa_gen, ROUGE-L accuracy  20 questions" in lines


def test_models_have_tables_of_their_own() -> None:
    other = [row("coqa", "F1", codec, 0.0, 1.0, model="other") for codec in ("raw", "int4")]
    titles = [line for line in printed([*STUDIED, *other], 80) if line.startswith("Accuracy")]
    assert titles == ["Accuracy with compressed KV: tiny", "Accuracy with compressed KV: other"]


def test_the_papers_figures_are_quoted_and_said_to_be() -> None:
    lines = printed(STUDIED, 80)
    assert lines[-2].startswith("quoted, not measured here: the paper's LLaMA-7B")
    assert lines[-1].split("; ") == ["  CoQA 63.95 / 64.58", "TruthfulQA 30.64 / 30.13", "GSM8K 13.23 / 12.54"]


def test_no_spread_is_not_sold_as_certainty() -> None:
    assert table.span(Mean(0.0, 0.0, (0.0, 0.0)), "") == "+0.00 [no spread]"
    assert table.span(Mean(-4.0, math.nan, (-4.0, -4.0)), "") == "-4.00 [no spread]"
    assert table.span(Mean(-0.4, 0.4, (-1.2, 0.3)), "") == "-0.40 [-1.20, +0.30]"
    assert table.span(Mean(1.0022, 0.001, (1.0011, 1.0043)), "×") == "×1.0022 [1.0011, 1.0043]"
    assert table.plus_minus(Mean(16.667, math.nan)) == "16.67"


def test_markdown_and_csv_hold_the_same_rows() -> None:
    lines = table.markdown(STUDIED).splitlines()
    body = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| tiny")]
    assert [len(line) for line in body] == [len(table.HEADINGS)] * len(STUDIED)
    assert [line[1:3] for line in body[:6]] == [["coqa", "exact match"]] * 3 + [["coqa", "F1"]] * 3
    records = list(csv.DictReader(table.as_csv(STUDIED).splitlines()))
    assert [(one["task"], one["metric"], one["codec"]) for one in records] == [
        (r.task, r.metric, r.codec) for r in STUDIED
    ]
    assert np.allclose(
        [float(one["difference_low"]) for one in records], [(r.difference.interval or (0, 0))[0] for r in STUDIED]
    )
