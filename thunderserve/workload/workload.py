"""A workload ready to use: draws traces, the same for the same seed, or replays a recorded one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from thunderserve.spec.trace import Trace
from thunderserve.workload.arrivals import Floats, Ints, piecewise, times, unit_gaps
from thunderserve.workload.file import Arrivals, PoissonArrivals, ReplayArrivals, Segment
from thunderserve.workload.lengths import Rows, Sampler
from thunderserve.workload.limits import Limits, drawn_within

_POISSON = PoissonArrivals()
_NONE = Limits()


@dataclass(frozen=True)
class Stretch:
    """A segment with its own lengths, or with those of the workload (None)."""

    segment: Segment
    sampler: Sampler | None
    limits: Limits


@dataclass(frozen=True)
class Workload:
    """Lengths, arrivals, limits and segments. ``thunderserve.workload.load`` makes it."""

    name: str
    sampler: Sampler
    arrivals: Arrivals = _POISSON
    limits: Limits = _NONE
    stretches: tuple[Stretch, ...] = ()
    description: str = ""
    source: str = ""

    @property
    def replays(self) -> bool:
        """Whether it plays recorded requests: the same for every seed, and no more of them than were recorded."""
        return isinstance(self.arrivals, ReplayArrivals)

    def trace(
        self, requests: int | None, rate_per_s: float | None, seed: int, *, max_context: int | None = None
    ) -> Trace:
        """``requests`` requests at ``rate_per_s`` on average.

        Lengths and arrivals come from streams of their own: at another rate the same seed gives the same lengths, with
        the arrivals scaled. Requests that do not fit the workload's limits, or ``max_context`` (prompt plus output), are
        left out and counted in ``Trace.dropped``; generated ones are drawn anew, so that ``requests`` remain. With
        ``replay`` the first ``requests`` recorded ones remain (all of them for None), as recorded for a rate of None, or
        scaled to that mean rate. Raises ValueError, in words, for a number or rate that is missing or not positive.
        """
        if requests is not None and requests < 1:
            raise ValueError(f"a trace needs at least one request, not {requests}")
        if rate_per_s is not None and not 0 < rate_per_s < float("inf"):
            raise ValueError(f"the rate must be positive, not {rate_per_s} requests/s")
        if isinstance(self.arrivals, ReplayArrivals):
            return self._replay(self.arrivals, requests, rate_per_s, max_context)
        if requests is None or rate_per_s is None:
            raise ValueError(f"{self.name}: generated arrivals need a number of requests and a rate")
        return self._generate(requests, rate_per_s, seed, "", max_context)

    def sample(self, requests: int, rate_per_s: float, seed: int, *, max_context: int | None = None) -> Trace:
        """Another trace of the same kind, for planning: never the one that ``trace`` gives, whatever the seed.

        A replayed workload gives its lengths in random order with Poisson arrivals.
        """
        like = replace(self, arrivals=_POISSON) if self.replays else self
        return like._generate(requests, rate_per_s, seed, "plan/", max_context)

    def _generate(self, requests: int, rate_per_s: float, seed: int, use: str, max_context: int | None) -> Trace:
        gaps = unit_gaps(self.arrivals, seed, f"{use}arrivals", requests)
        if not self.stretches:
            limits = replace(self.limits, context=max_context)
            prompt, output, dropped = drawn_within(self.sampler, limits, seed, f"{use}lengths", requests)
            return Trace(times(gaps, rate_per_s), prompt, output, dropped)
        arrival_s, which = piecewise(gaps, rate_per_s, [stretch.segment for stretch in self.stretches])
        return self._of_stretches(arrival_s, which, seed, use, max_context)

    def _of_stretches(self, arrival_s: Floats, which: Ints, seed: int, use: str, max_context: int | None) -> Trace:
        """Lengths by segment; those without their own share one stream with the workload."""
        prompt, output = np.zeros(len(which), dtype=np.int64), np.zeros(len(which), dtype=np.int64)
        dropped: Counter[str] = Counter()
        own = [index for index, stretch in enumerate(self.stretches) if stretch.sampler is not None]
        plain = [index for index, stretch in enumerate(self.stretches) if stretch.sampler is None]
        for group in [*([index] for index in own), *([plain] if plain else [])]:
            stretch = self.stretches[group[0]]
            sampler = stretch.sampler if stretch.sampler is not None else self.sampler
            purpose = f"{use}lengths" + (f"/segment{group[0]}" if stretch.sampler is not None else "")
            mine = np.flatnonzero(np.isin(which, group))
            limits = replace(stretch.limits, context=max_context)
            prompt[mine], output[mine], lost = drawn_within(sampler, limits, seed, purpose, len(mine))
            dropped.update(lost)
        return Trace(arrival_s, prompt, output, dict(dropped))

    def _replay(
        self, arrivals: ReplayArrivals, requests: int | None, rate_per_s: float | None, max_context: int | None
    ) -> Trace:
        rows = self.sampler
        if not isinstance(rows, Rows) or rows.arrival_s is None:
            raise ValueError(f"{self.name}: replay needs a trace file with timestamps")
        limits = replace(self.limits, context=max_context)
        stays = np.flatnonzero(limits.keep(rows.prompt, rows.output)[0])[:requests]
        if not len(stays):
            raise ValueError(f"{self.name}: none of the {len(rows.prompt):,} recorded requests fits")
        used = int(stays[-1]) + 1 if requests is not None and len(stays) == requests else len(rows.prompt)
        at = rows.arrival_s[stays]
        speed = arrivals.speed
        if rate_per_s is not None and at[-1] > 0:
            speed = rate_per_s * float(at[-1]) / len(at)
        at = np.rint(at / speed * 1e9) / 1e9
        return Trace(at, rows.prompt[stays], rows.output[stays], limits.count(rows.prompt, rows.output, used))
