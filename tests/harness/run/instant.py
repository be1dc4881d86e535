"""Backends that need no simulation, with manners of their own: late, slow, failing, dying, losing."""

from __future__ import annotations

import os
import time
from pathlib import Path

from harness.bench import overhead
from thunderserve.backend import Deployment
from thunderserve.serving.records import Served
from thunderserve.spec.trace import Trace

CAPACITY_PER_S = 10.0
"""Above this offered rate, requests are too late."""


class Instant(overhead.Instant):
    """TTFT 10 ms, 1 ms a further token; a hundred seconds late above ``CAPACITY_PER_S``."""

    def serve(self, deployment: Deployment, trace: Trace, *, series: bool = False) -> Served:
        late_s = 100.0 if trace.offered_rate_per_s > CAPACITY_PER_S else 0.0
        return Served(overhead.instant(trace, late_s=late_s))


class Slow(Instant):
    """Takes 30 ms of wall time a cell, so that a run can be killed in the middle of it."""

    def serve(self, deployment: Deployment, trace: Trace, *, series: bool = False) -> Served:
        time.sleep(0.03)
        return super().serve(deployment, trace, series=series)


class Failing(Instant):
    """Fails at an offered rate above 3, for as long as the file named by FAIL_WHILE is there."""

    def serve(self, deployment: Deployment, trace: Trace, *, series: bool = False) -> Served:
        if trace.offered_rate_per_s > 3 and Path(os.environ["FAIL_WHILE"]).exists():
            raise RuntimeError("the backend has caught fire")
        return super().serve(deployment, trace, series=series)


class Dying(Instant):
    """Ends its process, without a word, at an offered rate above 3."""

    def serve(self, deployment: Deployment, trace: Trace, *, series: bool = False) -> Served:
        if trace.offered_rate_per_s > 3:
            os._exit(9)
        return super().serve(deployment, trace, series=series)


class Losing(Instant):
    """Loses the last request."""

    def serve(self, deployment: Deployment, trace: Trace, *, series: bool = False) -> Served:
        fewer = Trace(trace.arrival_s[:-1], trace.prompt_tokens[:-1], trace.output_tokens[:-1])
        return Served(overhead.instant(fewer))
