"""Runs of the search bench: each method from the same start with a cold memo, clocked in CPU seconds of this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.bench._search_problems import Case, case_of, random_case
from thunderserve.policy import Problem

if TYPE_CHECKING:
    from thunderserve.scheduler.methods.learned import Policy
    from thunderserve.scheduler.methods.space import Method
    from thunderserve.scheduler.stops import Stop

TRAINING_CLUSTERS = 6
TRAINING_DEVICES = 8


@dataclass(frozen=True)
class Budget:
    """A run goes on until it has both, or has taken ``patience`` times its seconds."""

    seconds: float
    evaluations: int
    patience: float = 2.0

    def stop(self) -> Stop:
        """As a stop of the search."""
        return lambda progress: (
            (progress.elapsed_s >= self.seconds and progress.scored >= self.evaluations)
            or progress.elapsed_s >= self.patience * self.seconds
        )


@dataclass(frozen=True)
class Run:
    """One search. The three lists have an entry an evaluation."""

    problem: str
    method: str
    seed: int
    scored: list[int]
    elapsed_s: list[float]
    attainment: list[float]
    judged: float
    """Attainment on requests the search had not seen."""
    estimated: int
    """Solutions that closed forms looked at."""

    def at_evaluations(self, count: int) -> float:
        """Best attainment after ``count`` evaluations, or after the last."""
        return self._at(self.scored, count)

    def at_seconds(self, seconds: float) -> float:
        """Best attainment after ``seconds`` of CPU time."""
        return self._at(self.elapsed_s, seconds)

    def _at(self, axis: Sequence[float], value: float) -> float:
        place = int(np.searchsorted(axis, value, side="right")) - 1
        return self.attainment[max(place, 0)]

    def row(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)


def run(name: str, problem: Problem, method_name: str, method: Method, seed: int, budget: Budget) -> Run:
    """Search once and judge what was found."""
    from thunderserve.scheduler.moves import SPLIT

    return search(case_of(name, problem, SPLIT), method_name, method, seed, budget)


def search(case: Case, method_name: str, method: Method, seed: int, budget: Budget, *, init: str = "cluster") -> Run:
    """As ``run``, with a lower level that has seen nothing but the start."""
    from thunderserve.scheduler.methods.partitions import space_of
    from thunderserve.scheduler.methods.space import improve
    from thunderserve.scheduler.moves import SPLIT
    from thunderserve.scheduler.search import start
    from thunderserve.scheduler.select import judged, largest, last_round

    rng = np.random.default_rng(seed)
    first = case.start if init == "cluster" else start(case.lower, SPLIT, "random", rng)
    space = space_of(case.lower, SPLIT, case.start)
    _, ledger = improve(method, first, space, budget.stop(), rng, clock=time.process_time)
    estimated = len(case.lower.estimated)
    last = last_round(case.problem, case.lower, 3000)
    chosen = largest(judged(case.lower, case.lower.race.finished, last, finalists=12))
    return Run(
        problem=case.name,
        method=method_name,
        seed=seed,
        scored=[one.scored for one in ledger.history],
        elapsed_s=[one.elapsed_s for one in ledger.history],
        attainment=[one.best.attainment for one in ledger.history],
        judged=chosen.judged.attainment,
        estimated=estimated,
    )


def compare(
    problems: Sequence[tuple[str, Problem]],
    methods: dict[str, Method],
    seeds: Sequence[int],
    budget: Budget,
    tell: Callable[[str], None],
) -> Iterator[Run]:
    """Every method on every problem with every seed. Seeds go round outermost: the machine's moods hit all methods alike."""
    for name, problem in problems:  # compile, and read what is read once
        run(name, problem, "tabu", methods["tabu"], 0, Budget(0.05, 5))
    for seed in seeds:
        for name, problem in problems:
            for method_name, method in methods.items():
                yield run(name, problem, method_name, method, seed, budget)
        tell(f"seed {seed} done")


def taught(episodes: int) -> tuple[Policy, float]:
    """(a policy trained on random clusters that the comparison does not use, CPU seconds of its training)."""
    from thunderserve.scheduler.methods.learned import Lesson, train
    from thunderserve.scheduler.methods.partitions import space_of
    from thunderserve.scheduler.moves import SPLIT

    def promise(case: Case) -> Callable[[Any], float]:
        return lambda solution: case.lower.needed(solution).attainment

    found = (random_case(TRAINING_DEVICES, 1000 + seed, SPLIT, 50) for seed in range(10 * TRAINING_CLUSTERS))
    cases = [case for case in found if case is not None][:TRAINING_CLUSTERS]
    began_s = time.process_time()
    lessons = [Lesson(space_of(case.lower, SPLIT, case.start), case.start, promise(case)) for case in cases]
    policy, _ = train(lessons, np.random.default_rng(0), episodes=episodes)
    return policy, time.process_time() - began_s
