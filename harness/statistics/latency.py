"""What TTFT, TPOT, E2E and the stages have in common: a mean and three percentiles over the requests that finished."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.statistics.bootstrap import mean_interval
from harness.statistics.percentiles import percentile
from harness.statistics.value import Value

SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


def columns(prefix: str, values: NDArray[np.float64], lost: int = 0) -> dict[str, Value]:
    """``{prefix}_mean_s``, ``_p50_s``, ``_p90_s``, ``_p99_s`` of ``values`` (N,), in order of arrival; NaN is left out.

    ``lost`` requests did not finish: they have no latency, which the mean's flag admits.
    """
    known = values[np.isfinite(values)]
    flag = f"{lost} of {len(values)} requests did not finish and have no latency" if lost else None
    if len(known) == 0:
        mean = Value(None, None, flag or "no request has one")
    else:
        mean = Value(float(known.mean()), mean_interval([known]), flag)
    tails = {f"{prefix}_{name}_s": percentile(known, share) for name, share in SHARES.items()}
    return {f"{prefix}_mean_s": mean, **tails}
