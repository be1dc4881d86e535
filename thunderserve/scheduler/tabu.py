"""Tabu search, generic in what is searched (the paper's upper level; Glover 1989 for the terms).

A step samples neighbours of the current solution, leaves out those visited in the last ``tenure`` steps unless they would
be the best ever (aspiration), and moves to the best of the rest, even if that is worse. After ``patience`` steps without
gain the search restarts from a shaken copy of the best.

From several starts it walks from each in turn and lets the better half go on, until one is left (successive halving,
Jamieson and Talwalkar, 2016): how good a start is says little of how good its surroundings are.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from thunderserve.scheduler.stops import Progress, Stop

S = TypeVar("S", bound=Hashable)
Rng = np.random.Generator
Neighbours = Callable[[S, int, Rng], Sequence[S]]
"""``neighbours(solution, count, rng)``: at most ``count`` different feasible neighbours."""


class Comparable(Protocol):
    """What a score can do."""

    def __gt__(self, other: Any, /) -> bool:
        """Larger is better."""
        ...


V = TypeVar("V", bound=Comparable)
Objective = Callable[[S], V]
Around = Callable[[S, Rng], Sequence[S]]
"""All feasible neighbours worth a simulation."""
Shortlist = Callable[[Sequence[S]], Sequence[S]]
"""Drops candidates that a cheap estimate rules out; keeps at least one."""


@dataclass(frozen=True)
class Parameters:
    """How the search behaves. The paper's values are not known (the paper, second-hand)."""

    neighbours: int = 32
    """Sampled a step."""
    tenure: int = 12
    """Steps for which a visited solution is tabu."""
    patience: int = 15
    """Steps without gain after which the search restarts."""
    shake: int = 3
    """Random moves of a restart."""
    walks: int = 4
    """Starts, the best of those given, that are walked from."""
    rung: int = 3
    """Steps of every walk before the better half goes on."""
    stale: int = 3
    """Steps without gain after which all neighbours of a walk's best solution are looked at, once."""

    def __post_init__(self) -> None:
        for name in ("neighbours", "patience", "shake", "walks", "rung"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.tenure < 0:
            raise ValueError(f"tenure must not be negative, but is {self.tenure}")


DEFAULT_PARAMETERS = Parameters()


@dataclass(frozen=True)
class Step(Generic[S, V]):
    """What a callback sees of a step."""

    progress: Progress
    origin: S
    """Whose neighbours were sampled."""
    current: S
    score: V
    tried: Sequence[tuple[S, V]]
    """The neighbours that were scored."""
    restarted: bool


@dataclass
class Outcome(Generic[S, V]):
    """What a search found."""

    best: S
    score: V
    steps: int = 0
    scored: int = 0
    elapsed_s: float = 0.0
    known: dict[S, V] = field(default_factory=dict)
    """Every solution scored, once."""


@dataclass
class _Walk(Generic[S]):
    """One way through the solutions, with a memory of its own."""

    current: S
    best: S
    tabu: deque[S]
    since_restart: int = 0


def keep_all(candidates: Sequence[S]) -> Sequence[S]:
    """The shortlist that drops nothing."""
    return candidates


def tabu_search(
    starts: Sequence[S],
    neighbours: Neighbours[S],
    objective: Objective[S, V],
    stop: Stop,
    *,
    parameters: Parameters = DEFAULT_PARAMETERS,
    rng: Rng,
    shortlist: Shortlist[S] = keep_all,
    around: Around[S] | None = None,
    watch: Callable[[Step[S, V]], None] = lambda _: None,
) -> Outcome[S, V]:
    """Search from the best ``starts``. ``objective`` is called once a solution. Raises ValueError without a start."""
    if not starts:
        raise ValueError("a search needs a solution to start from")
    began = time.perf_counter()
    known = {start: objective(start) for start in dict.fromkeys(starts)}
    best = _best_of(known)
    turns = _turns(_walks_from(known, parameters), parameters.rung, known)
    step = since_best = 0
    seen_all: set[S] = set()
    while not stop(progress := Progress(step, len(known), time.perf_counter() - began, since_best, known[best])):
        walk = next(turns)
        restarted = walk.since_restart >= parameters.patience
        if restarted:
            walk.current, walk.since_restart = _shaken(walk.best, neighbours, parameters.shake, rng), 0
        look = around if walk.since_restart >= parameters.stale and walk.best not in seen_all else None
        if look is not None:
            origin = walk.best
            seen_all.add(origin)
            near = look(origin, rng)
        else:
            origin = walk.current
            near = neighbours(origin, parameters.neighbours, rng)
        # What has been scored costs nothing, so the shortlist is for the others alone; what is looked around for is one.
        fresh = [one for one in near if one not in known]
        promising = shortlist(fresh) if fresh and look is None else fresh
        known.update({candidate: objective(candidate) for candidate in promising})
        candidates = [one for one in near if one in known]
        # Aspiration: a tabu solution has been scored before, so it can beat the best only if scores tie or it is the best.
        allowed = [
            one for one in candidates if parameters.tenure == 0 or one not in walk.tabu or known[one] > known[best]
        ]
        step, since_best, walk.since_restart = step + 1, since_best + 1, walk.since_restart + 1
        if allowed:
            walk.current = _best_of({one: known[one] for one in allowed})
            walk.tabu.append(walk.current)
            if known[walk.current] > known[walk.best]:
                walk.best, walk.since_restart = walk.current, 0
            if known[walk.best] > known[best]:
                best, since_best = walk.best, 0
        tried = [(one, known[one]) for one in candidates]
        seen = Progress(step, len(known), time.perf_counter() - began, since_best, known[best])
        watch(Step(seen, origin, walk.current, known.get(walk.current, known[best]), tried, restarted))
    return Outcome(best, known[best], step, len(known), progress.elapsed_s, known)


def _walks_from(scores: dict[S, V], parameters: Parameters) -> list[_Walk[S]]:
    """A walk from each of the best starts."""
    ranked = sorted(scores, key=lambda start: scores[start], reverse=True)[: parameters.walks]
    return [_Walk(start, start, deque([start], maxlen=max(parameters.tenure, 1))) for start in ranked]


def _turns(walks: Sequence[_Walk[S]], rung: int, scores: dict[S, V]) -> Iterator[_Walk[S]]:
    """Whose step it is: ``rung`` steps of each, then as many of the better half, and so on; at last one alone."""
    while len(walks) > 1:
        for _ in range(rung):
            yield from walks
        walks = sorted(walks, key=lambda walk: scores[walk.best], reverse=True)[: len(walks) // 2]
    while True:
        yield walks[0]


def _best_of(scores: dict[S, V]) -> S:
    """The first of the highest scores."""
    best, *rest = scores
    for one in rest:
        if scores[one] > scores[best]:
            best = one
    return best


def _shaken(solution: S, neighbours: Neighbours[S], moves: int, rng: Rng) -> S:
    for _ in range(moves):
        options = neighbours(solution, 1, rng)
        solution = options[0] if options else solution
    return solution
