"""Tabu search against every solution of small random clusters."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.bench._search_problems import Case, random_case

if TYPE_CHECKING:
    from thunderserve.scheduler.score import Score

OPTIMAL = 1e-9
"""Attainments closer than this are the same."""


@dataclass(frozen=True)
class Trial:
    """One cluster."""

    name: str
    cards: int
    solutions: int
    found: Score
    truth: Score
    bound: float
    search_s: float
    exhaustive_s: float

    @property
    def gap(self) -> float:
        """Share of the best attainment that the search missed."""
        return max(0.0, 1 - self.found.attainment / self.truth.attainment) if self.truth.attainment else 0.0

    @property
    def optimal(self) -> bool:
        """Whether no plan attains more."""
        return self.gap <= OPTIMAL


def trials(
    clusters: int, devices: tuple[int, int], limit_s: float, tell: Callable[[str], None], first_seed: int = 0
) -> Iterator[Trial]:
    """Random clusters of seeds from ``first_seed`` on, in turn by size, until enough are done or ``limit_s`` CPU seconds gone."""
    from thunderserve.scheduler.moves import SPLIT

    began_s, done, seed = time.process_time(), 0, first_seed
    while done < clusters:
        size = devices[0] + done % (devices[1] - devices[0] + 1)
        case = random_case(size, seed, SPLIT, 200)
        seed += 1
        if case is None:
            continue
        yield trial(case)
        done += 1
        if time.process_time() - began_s > limit_s:
            tell(f"stopped by --limit-s after {done} of {clusters} clusters")
            return


def trial(case: Case, seed: int = 0) -> Trial:
    """Search, then try all. The search comes first, so that nothing is remembered for it."""
    from thunderserve.scheduler.bound import upper_bound
    from thunderserve.scheduler.exhaustive import best_of_all
    from thunderserve.scheduler.moves import SPLIT
    from thunderserve.scheduler.search import climb
    from thunderserve.scheduler.system import System

    began_s = time.process_time()
    outcome = climb(case.lower, System(seed=seed).settings(case.problem), case.start)
    searched_s = time.process_time()
    _, truth, count = best_of_all(case.lower, SPLIT)
    ended_s = time.process_time()
    bound = upper_bound(case.lower).attainment
    cards = sum(case.lower.inventory.counts)
    return Trial(case.name, cards, count, outcome.score, truth, bound, searched_s - began_s, ended_s - searched_s)


def summary(done: list[Trial]) -> str:
    """The table, as text."""
    lines = [
        f"{'cards':>5} {'clusters':>8} {'solutions':>10} {'optimal':>8} {'worst gap':>9} {'attained':>8} {'bound':>6}"
    ]
    sizes = sorted({one.cards for one in done})
    lines += [_line(f"{cards:5}", [one for one in done if one.cards == cards]) for cards in sizes]
    lines.append(_line("  all", done))
    hard = [one for one in done if one.truth.attainment < 1]
    whole = sum(one.found == one.truth for one in done)
    lines += [
        "",
        f"{len(hard)} of {len(done)} clusters are loaded so that no plan attains everything; "
        f"of these {sum(one.optimal for one in hard)} optimal.",
        f"Same score including throughput and price, which break ties: {whole} of {len(done)}.",
        f"CPU seconds: search {sum(one.search_s for one in done):.1f}, "
        f"all solutions {sum(one.exhaustive_s for one in done):.1f}.",
    ]
    lines += [
        f"missed: {one.name}: {one.found.attainment:.4f} of {one.truth.attainment:.4f}"
        for one in done
        if not one.optimal
    ]
    return "\n".join(lines)


def _line(head: str, of: list[Trial]) -> str:
    return (
        f"{head} {len(of):8} {sum(one.solutions for one in of):10,} {np.mean([one.optimal for one in of]):8.1%} "
        f"{max(one.gap for one in of):9.2%} {np.mean([one.truth.attainment for one in of]):8.3f} "
        f"{np.mean([one.bound for one in of]):6.3f}"
    )
