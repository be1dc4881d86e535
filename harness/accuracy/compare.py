"""A codec beside 16 bit on the same questions: scores, paired differences, and the measures that see more than scores do."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.accuracy.study import REFERENCE
from harness.accuracy.units import Unit
from harness.statistics import clustered
from harness.statistics.value import Interval
from harness.store import columns

Floats = NDArray[np.float64]


class Metric(NamedTuple):
    """A task's score: lm-eval's name, what tables call it, and what brings it to points of 100."""

    name: str
    title: str
    scale: float = 100.0


METRICS: dict[str, tuple[Metric, ...]] = {
    "coqa": (Metric("em", "exact match"), Metric("f1", "F1")),
    "truthfulqa_gen": (
        Metric("bleu_max", "BLEU", 1.0),
        Metric("bleu_acc", "BLEU accuracy"),
        Metric("rougeL_acc", "ROUGE-L accuracy"),
    ),
    "truthfulqa_mc1": (Metric("acc", "accuracy"),),
    "truthfulqa_mc2": (Metric("acc", "accuracy"),),
    "gsm8k": (
        Metric("exact_match,strict-match", "exact match"),
        Metric("exact_match,flexible-extract", "flexible match"),
    ),
}
"""The first of each task stands for the paper's; which it used is inferred from KIVI, whose tasks it took."""


class Mean(NamedTuple):
    """A mean over questions with its standard error and, where it was drawn, its 95 % interval."""

    value: float
    error: float
    interval: Interval | None = None


@dataclass(frozen=True)
class Row:
    """One model, task, metric and codec."""

    model: str
    task: str
    metric: str
    codec: str
    questions: int
    groups: int
    score: Mean
    """In points of 100 (perplexity: its value)."""
    reference: Mean
    """The same at 16 bit."""
    difference: Mean
    """Codec minus 16 bit, question by question (perplexity: their ratio)."""
    identical: float
    """Share of questions with the same text, or the same choice, as at 16 bit."""
    shift: Mean
    """Mean absolute change of log-likelihood a token, in nats."""
    kl: Mean
    """Mean KL divergence a token from 16 bit, in nats."""
    wire: float
    """Bytes on the wire over those of 16-bit KV."""


class Side(NamedTuple):
    """The answers of one codec, put together over seeds."""

    codec: str
    table: columns.Columns
    groups: list[str]


def rows(folder: Path, units: list[Unit]) -> list[Row]:
    """All rows of a study whose cells are there, in the order of its axes."""
    found: list[Row] = []
    keys = dict.fromkeys((unit.model, unit.task, unit.limit) for unit in units)
    for key in keys:
        own = [unit for unit in units if (unit.model, unit.task, unit.limit) == key]
        sides = [_side(folder, own, codec) for codec in own[0].codecs]
        whole = [side for side in sides if side is not None]
        if whole and whole[0].codec == REFERENCE:
            found += [row for side in whole for row in _rows(key[0], key[1], whole[0], side)]
    return found


def _side(folder: Path, units: list[Unit], codec: str) -> Side | None:
    tables, groups = [], []
    for unit in units:
        path = folder / "cells" / unit.cell(codec) / "answers.parquet"
        if path.is_file():
            table = columns.read(path)
            tables.append(table)
            # A turn's id may be "conversation#turn". The same conversation under another seed is the same group.
            groups += [str(group).partition("#")[0] for group in table["group"]]
    if not tables:
        return None
    return Side(codec, {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}, groups)


def _rows(model: str, task: str, reference: Side, side: Side) -> list[Row]:
    if not np.array_equal(reference.table["question"], side.table["question"]):
        raise ValueError(f"{task}: {side.codec} and {reference.codec} did not answer the same questions")
    common = {
        "model": Path(model).name, "task": task, "codec": side.codec, "questions": len(side.groups),
        "groups": len(set(side.groups)), "identical": _identical(task, reference, side), "shift": _shift(reference, side),
        "kl": _mean(np.asarray(side.table["kl"], np.float64), side.groups),
        "wire": float(side.table["wire_bytes"].sum() / max(side.table["raw_bytes"].sum(), 1)),
    }  # fmt: skip
    if task == "perplexity":
        return [_perplexity(common, reference, side)]
    return [_scored(common, metric, reference, side) for metric in METRICS[task]]


def _scored(common: dict[str, Any], metric: Metric, reference: Side, side: Side) -> Row:
    ours, theirs = (
        metric.scale * np.asarray(one.table[f"score.{metric.name}"], np.float64) for one in (side, reference)
    )
    return Row(
        metric=metric.title, score=_mean(ours, side.groups), reference=_mean(theirs, side.groups),
        difference=_mean(ours - theirs, side.groups), **common,
    )  # fmt: skip


def _perplexity(common: dict[str, Any], reference: Side, side: Side) -> Row:
    """Perplexity is exp of the mean loss a token; its ratio to 16 bit is exp of the mean paired difference."""
    ours, theirs = (-_totals(one) / _tokens(one) for one in (side, reference))
    gap = clustered.interval(clustered.resampled_means(ours - theirs, side.groups))
    ratio = math.exp(float((ours - theirs).mean()))
    means = [math.exp(float(one.mean())) for one in (ours, theirs)]
    errors = [
        mean * clustered.standard_error(one, side.groups) for mean, one in zip(means, (ours, theirs), strict=True)
    ]
    spread = ratio * clustered.standard_error(ours - theirs, side.groups)
    difference = Mean(ratio, spread, (math.exp(gap[0]), math.exp(gap[1])))
    return Row(
        metric="perplexity",
        score=Mean(means[0], errors[0]),
        reference=Mean(means[1], errors[1]),
        difference=difference,
        **common,
    )


def _mean(values: Floats, groups: list[str]) -> Mean:
    drawn = clustered.resampled_means(values, groups)
    return Mean(float(values.mean()), clustered.standard_error(values, groups), clustered.interval(drawn))


def _lists(side: Side, name: str) -> list[list[float]]:
    return [json.loads(text) for text in side.table[name]]


def _totals(side: Side) -> Floats:
    return np.array([sum(one) for one in _lists(side, "loglikelihoods")])


def _tokens(side: Side) -> Floats:
    return np.array([sum(one) for one in _lists(side, "continuation_tokens")], np.float64)


def _shift(reference: Side, side: Side) -> Mean:
    """|change of log-likelihood| a token: summed over a question's continuations, over their tokens."""
    pairs = zip(_lists(reference, "loglikelihoods"), _lists(side, "loglikelihoods"), strict=True)
    changes = np.array([sum(abs(a - b) for a, b in zip(*pair, strict=True)) for pair in pairs])
    return _mean(changes / _tokens(reference), side.groups)


def _identical(task: str, reference: Side, side: Side) -> float:
    if task == "perplexity":
        return float("nan")
    if task.startswith("truthfulqa_mc"):
        choices = [[int(np.argmax(one)) for one in _lists(each, "loglikelihoods")] for each in (reference, side)]
    else:
        choices = [list(each.table["output"]) for each in (reference, side)]
    return float(np.mean([a == b for a, b in zip(*choices, strict=True)]))


def macro_loss(found: list[Row], codec: str) -> Mean | None:
    """Mean over data sets of what a codec loses in each task's first metric, in points, with the interval the questions leave.

    TruthfulQA's tasks ask the same questions: they are averaged first, and so are their errors, which bounds the error of the
    average however they hang together. Data sets are independent samples: the variance of the mean of K is the sum of theirs
    over K squared.
    """
    first = {task: metrics[0].title for task, metrics in METRICS.items()}
    together: dict[str, list[Mean]] = {}
    for row in found:
        if row.codec == codec and first.get(row.task) == row.metric:
            together.setdefault(row.task.partition("_")[0], []).append(row.difference)
    if not together or codec == REFERENCE:
        return None
    loss = -float(np.mean([np.mean([one.value for one in own]) for own in together.values()]))
    errors = [float(np.mean([one.error for one in own])) for own in together.values()]
    error = math.sqrt(sum(one**2 for one in errors)) / len(errors)
    return Mean(loss, error, (loss - 1.96 * error, loss + 1.96 * error))
