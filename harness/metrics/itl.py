"""Mean gap between tokens, pooled over all requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.statistics.value import Value

if TYPE_CHECKING:
    from harness.result import View

UNIT = "s"
DIRECTION = "down"
FORMULA = "sum of (last token - first token) / sum of (output tokens - 1), over all finished requests"
DOC = """The mean over every gap between two tokens, so long answers weigh more than in TPOT. Only the mean: times of
single tokens are not stored, and percentiles of gaps cannot be told from the ends of each request."""


def compute(view: View) -> dict[str, Value]:
    """The pooled mean."""
    records = view.records
    several = records.finished & (records.output_tokens > 1)
    gaps = int(np.sum(records.output_tokens[several] - 1))
    if gaps == 0:
        return {"itl_mean_s": Value(None, None, "no request has two tokens")}
    return {"itl_mean_s": Value(float(np.sum((records.finish_s - records.first_token_s)[several])) / gaps)}
