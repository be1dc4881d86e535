"""When to stop a search: small callables over its progress, joined by ``any_of``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Progress(NamedTuple):
    """Where a search stands after a step."""

    step: int
    scored: int
    """Solutions scored so far."""
    elapsed_s: float
    since_best: int
    """Steps since the best score rose."""
    best: Any
    """The best score so far."""


Stop = Callable[[Progress], bool]


def after_steps(steps: int) -> Stop:
    """Stop after this many steps."""
    return lambda progress: progress.step >= steps


def at_time(ends_s: float, clock: Callable[[], float]) -> Stop:
    """Stop once ``clock`` shows ``ends_s``: the plan then depends on the machine."""
    return lambda _: clock() >= ends_s


def without_gain(steps: int) -> Stop:
    """Stop after this many steps in a row that did not raise the best score."""
    return lambda progress: progress.since_best >= steps


def at_score(target: object) -> Stop:
    """Stop once the best score is no less than ``target``."""
    return lambda progress: bool(progress.best >= target)


def any_of(*stops: Stop) -> Stop:
    """Stop when one of them says so."""
    return lambda progress: any(stop(progress) for stop in stops)
