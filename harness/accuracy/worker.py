"""Measures one unit in a process of its own, and writes down each question as soon as it is answered."""

from __future__ import annotations

import traceback
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from harness.accuracy import journal
from harness.accuracy.study import Study
from harness.accuracy.units import Unit


class Outcome(NamedTuple):
    """How it ended; ``error`` is empty when it ended well."""

    error: str = ""
    trace: str = ""


def run(unit: Unit, study: Study, data: str | None, path: Path) -> Outcome:
    """Answer what is not in the journal at ``path`` yet. Never raises."""
    try:
        _measure(unit, study, data, path)
    except Exception as error:  # whatever went wrong is the unit's result
        return Outcome(f"{type(error).__name__}: {error}", traceback.format_exc())
    return Outcome()


def _measure(unit: Unit, study: Study, data: str | None, path: Path) -> None:
    from eval.quiet import hush

    hush()
    from eval.contract import Ask
    from eval.measure import measure

    journal.mend(path)
    known = {(int(one["question"]), str(one["codec"])) for one in journal.read(path)}
    ask = Ask(
        model=unit.model, task=unit.task, codecs=unit.codecs, limit=unit.limit, seed=unit.seed, data=data,
        batch=unit.batch, dtype=study.dtype, wire_dtype=study.wire_dtype, device=study.device, threads=study.threads,
    )  # fmt: skip

    def note(_done: int, total: int) -> None:
        path.with_suffix(".total").write_text(str(total), encoding="utf-8")

    with path.open("a", encoding="utf-8") as stream:
        for _, answers in groupby(measure(ask, skip=known, progress=note), key=lambda answer: answer.question):
            journal.append(stream, answers)


def kv_errors(model: str, study: Study, data: str | None, path: Path) -> Outcome:
    """Errors of every codec on one piece of text, by layer and head, as a table at ``path``. Never raises."""
    try:
        from eval.quiet import hush

        hush()
        import numpy as np

        from eval.kv_error import kv_error
        from eval.perplexity import text_of
        from eval.weights import load
        from harness.store import atomic, columns
        from thunderserve.engine.checkpoint.locate import locate

        weights = load(locate(model), dtype=study.dtype, device=study.device)
        text, parts = text_of(data), []
        for codec in study.codecs:
            found = kv_error(weights, text, codec, wire_dtype=study.wire_dtype)
            layers, heads = np.indices(found.keys.shape)
            names = np.full(found.keys.size, codec, object)
            parts.append((names, layers.ravel(), heads.ravel(), found.keys.ravel(), found.values.ravel()))
        table = dict(
            zip(
                ("codec", "layer", "head", "keys", "values"), map(np.concatenate, zip(*parts, strict=True)), strict=True
            )
        )
        atomic.write_with(path, lambda draft: columns.write(draft, table))
    except Exception as error:  # whatever went wrong is told, and the study goes on
        return Outcome(f"{type(error).__name__}: {error}", traceback.format_exc())
    return Outcome()
