"""The search itself, on a landscape that can be read by eye."""

import itertools

import numpy as np
import pytest

from thunderserve.scheduler.stops import after_steps, any_of, at_score, at_time, without_gain
from thunderserve.scheduler.tabu import Parameters, Step, tabu_search

HEIGHTS = [0, 3, 5, 4, 2, 1, 2, 6, 9, 4]  # a lesser peak at 2, the highest at 8


def neighbours(place: int, count: int, rng: np.random.Generator) -> list[int]:
    found = [one for one in (place - 1, place + 1) if 0 <= one < len(HEIGHTS)]
    return found[:count]


def test_crosses_a_valley() -> None:
    outcome = tabu_search([0], neighbours, HEIGHTS.__getitem__, after_steps(12), rng=np.random.default_rng(0))
    assert outcome.best == 8
    assert outcome.score == 9
    assert outcome.known == {place: HEIGHTS[place] for place in outcome.known}


def test_without_memory_it_stays_on_the_lesser_peak() -> None:
    parameters = Parameters(tenure=0, patience=100)
    outcome = tabu_search(
        [0], neighbours, HEIGHTS.__getitem__, after_steps(30), parameters=parameters, rng=np.random.default_rng(0)
    )
    assert outcome.best == 2


def test_nothing_is_scored_twice_and_every_step_is_seen() -> None:
    scored: list[int] = []
    steps: list[Step[int]] = []

    def height(place: int) -> int:
        scored.append(place)
        return HEIGHTS[place]

    tabu_search([4], neighbours, height, after_steps(20), rng=np.random.default_rng(0), watch=steps.append)
    assert len(scored) == len(set(scored))
    assert [step.progress.step for step in steps] == list(range(1, 21))
    best = [step.progress.best for step in steps]
    assert best == sorted(best)


@pytest.mark.parametrize(
    ("stop", "steps"),
    [
        (after_steps(3), 3),
        (at_score(5), 2),
        (without_gain(4), 6),
        (at_time(3.5, itertools.count().__next__), 4),
        (any_of(after_steps(50), at_time(5.0, lambda: 5.0)), 0),
    ],
)
def test_stops(stop, steps: int) -> None:
    outcome = tabu_search(
        [0], neighbours, HEIGHTS.__getitem__, stop, rng=np.random.default_rng(0), parameters=Parameters(patience=99)
    )
    assert outcome.steps == steps


def test_restarts_from_a_shaken_best() -> None:
    seen: list[bool] = []
    parameters = Parameters(patience=3, shake=2)
    tabu_search(
        [0], neighbours, HEIGHTS.__getitem__, after_steps(20), parameters=parameters, rng=np.random.default_rng(0),
        watch=lambda step: seen.append(step.restarted),
    )  # fmt: skip
    assert any(seen)


def test_walks_take_turns_and_the_better_goes_on() -> None:
    seen: list[int] = []
    parameters = Parameters(walks=2, rung=2)
    tabu_search(
        [9, 0, 6], neighbours, HEIGHTS.__getitem__, after_steps(6), parameters=parameters, rng=np.random.default_rng(0),
        watch=lambda step: seen.append(step.current),
    )  # fmt: skip
    assert seen[:4] == [8, 7, 7, 8]  # from 9 and from 6 in turn, the best starts; nobody walks from 0
    assert seen[4:] == [6, 5]  # the first walk goes on from 7; where it has been is closed to it alone


def test_from_one_start_there_is_one_walk() -> None:
    found = [
        tabu_search(
            [0], neighbours, HEIGHTS.__getitem__, after_steps(9), parameters=Parameters(walks=walks),
            rng=np.random.default_rng(0),
        ).known
        for walks in (1, 4)
    ]  # fmt: skip
    assert found[0] == found[1]


def test_all_neighbours_of_the_best_are_looked_at_once_when_chance_finds_nothing() -> None:
    asked: list[int] = []

    def around(place: int, _rng: np.random.Generator) -> list[int]:
        asked.append(place)
        return [place, 8] if place == 2 else [place - 1, place]

    outcome = tabu_search(
        [0], lambda place, *_: [place + 1] if place < 2 else [1], HEIGHTS.__getitem__, after_steps(30), around=around,
        parameters=Parameters(stale=2, patience=9), rng=np.random.default_rng(0),
    )  # fmt: skip
    assert outcome.best == 8  # which no other way leads to
    assert asked == [2, 8]


def test_bad_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="neighbours must be at least 1"):
        Parameters(neighbours=0)
    with pytest.raises(ValueError, match="start"):
        tabu_search([], neighbours, HEIGHTS.__getitem__, after_steps(1), rng=np.random.default_rng(0))
