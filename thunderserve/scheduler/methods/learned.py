"""A policy that picks moves, learned by REINFORCE (Williams, 1992) on random clusters: a start for other searches.

The policy sees the traits of a few sampled neighbours and takes one with the probability of a softmax over a linear score
of what the move changes. An episode is a walk of a few moves; its reward is what the closed forms say of the best solution
on it over that of the first. Nothing is simulated in training, so a few seconds do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic

import numpy as np

from thunderserve.cost.step_table import Floats
from thunderserve.scheduler.methods.climbs import Tabu
from thunderserve.scheduler.methods.ledger import Ledger, V
from thunderserve.scheduler.methods.space import Method, Space
from thunderserve.scheduler.tabu import Rng, S

REWARD_SPREAD = 0.05
"""Floor of the spread that rewards are divided by."""


@dataclass(frozen=True)
class Policy:
    """A linear softmax policy over moves. ``weights`` (F,) of the change of each trait; None: all moves are alike."""

    weights: tuple[float, ...] | None = None
    neighbours: int = 16
    steps: int = 12

    def pick(self, space: Space[S, V], current: S, rng: Rng) -> tuple[S, Floats, Floats] | None:
        """(the next solution, chances (N,), changes of traits (N, F)); None where no move applies."""
        options = space.neighbours(current, self.neighbours, rng)
        if not options:
            return None
        here = space.traits(current)
        changes = np.array([space.traits(option) - here for option in options])
        logits = changes @ np.array(self.weights) if self.weights is not None else np.zeros(len(options))
        chances = np.exp(logits - logits.max())
        chances /= chances.sum()
        return options[int(rng.choice(len(options), p=chances))], chances, changes

    def walk(self, space: Space[S, V], start: S, rng: Rng) -> tuple[list[S], Floats]:
        """(the solutions on the way, the gradient (F,) of the walk's log-probability)."""
        way, gradient = [start], np.zeros_like(space.traits(start))
        for _ in range(self.steps):
            picked = self.pick(space, way[-1], rng)
            if picked is None:
                break
            following, chances, changes = picked
            gradient += space.traits(following) - space.traits(way[-1]) - chances @ changes
            way.append(following)
        return way, gradient


UNTAUGHT = Policy()
TABU = Tabu()


@dataclass(frozen=True)
class Lesson(Generic[S, V]):
    """One problem to learn from."""

    space: Space[S, V]
    start: S
    promise: Callable[[S], float]
    """How good a solution is by closed forms; larger is better."""


def train(
    lessons: Sequence[Lesson[Any, Any]],
    rng: Rng,
    *,
    episodes: int = 300,
    rate: float = 0.3,
    policy: Policy = UNTAUGHT,
) -> tuple[Policy, list[float]]:
    """(the policy after ``episodes`` walks on the lessons in turn, the reward of each).

    A lesson's own running mean is its baseline, and rewards are scaled by their running spread.
    """
    weights = np.zeros(len(lessons[0].space.traits(lessons[0].start)))
    means, seen, square = np.zeros(len(lessons)), np.zeros(len(lessons)), REWARD_SPREAD**2
    rewards = []
    for episode in range(episodes):
        number = episode % len(lessons)
        lesson = lessons[number]
        way, gradient = replace(policy, weights=tuple(weights)).walk(lesson.space, lesson.start, rng)
        reward = max(map(lesson.promise, way)) - lesson.promise(lesson.start)
        advantage = reward - means[number] if seen[number] else 0.0
        seen[number] += 1
        means[number] += (reward - means[number]) / min(seen[number], 10)
        square += 0.05 * (advantage**2 - square)
        weights += rate * advantage / max(float(np.sqrt(square)), REWARD_SPREAD) * gradient / policy.steps
        rewards.append(reward)
    return replace(policy, weights=tuple(weights.tolist())), rewards


@dataclass(frozen=True)
class Learned:
    """Walks of a policy, from the start and then from the best: what looks best on each is scored."""

    policy: Policy
    turns: int | None = None
    """Walks; None: until the search is stopped."""

    def __call__(self, start: S, space: Space[S, V], ledger: Ledger[S, V], rng: Rng) -> None:
        """See ``Method``."""
        turn = 0
        while turn != self.turns and ledger.goes_on():
            way, _ = self.policy.walk(space, start if turn % 2 == 0 else ledger.best, rng)
            ledger.highest([ledger.best, *space.shortlist(list(dict.fromkeys(way)))])
            turn += 1


@dataclass(frozen=True)
class Then:
    """One method for its turns, then another from the best that it found."""

    first: Method
    second: Method = TABU

    def __call__(self, start: S, space: Space[S, V], ledger: Ledger[S, V], rng: Rng) -> None:
        """See ``Method``."""
        self.first(start, space, ledger, rng)
        self.second(ledger.best, space, ledger, rng)
