"""The search methods: on a landscape that can be read by eye, and on real problems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunderserve.policy import Problem
from thunderserve.scheduler.lower import Lower, lower_level
from thunderserve.scheduler.methods.climbs import AnnealedTabu, Annealing, MultiStart, Tabu, accepted
from thunderserve.scheduler.methods.genetic import Genetic
from thunderserve.scheduler.methods.learned import Learned, Lesson, Policy, Then, train
from thunderserve.scheduler.methods.ledger import Ledger, after_scored
from thunderserve.scheduler.methods.named import methods
from thunderserve.scheduler.methods.partitions import crossed, cut_along, leaves, space_of
from thunderserve.scheduler.methods.space import Method, Space, improve
from thunderserve.scheduler.methods.traits import NAMES
from thunderserve.scheduler.moves import SPLIT
from thunderserve.scheduler.race import Race
from thunderserve.scheduler.search import Settings, climb, start
from thunderserve.scheduler.solution import Cards, Group, Solution, canonical, solution_of
from thunderserve.scheduler.stops import after_steps, any_of
from thunderserve.spec.kv import INT4
from thunderserve.spec.plan import Phase

HEIGHTS = [0, 3, 5, 4, 2, 1, 2, 6, 9, 4]  # a lesser peak at 2, the highest at 8
POLICY = Policy(weights=(5.0,), steps=8)


def line() -> Space[int, int]:
    """Places on a line; a code is the place in two digits."""

    def neighbours(place: int, count: int, rng: np.random.Generator) -> list[int]:
        found = [one for one in (place - 1, place + 1) if 0 <= one < len(HEIGHTS)]
        return [found[one] for one in rng.permutation(len(found))][:count]

    def decode(code: Sequence[int]) -> int | None:
        place = 5 * code[0] + code[1]
        return place if place < len(HEIGHTS) else None

    return Space(
        objective=HEIGHTS.__getitem__,
        worth=float,
        neighbours=neighbours,
        shortlist=lambda places: places,
        around=None,
        fresh=lambda rng: int(rng.integers(len(HEIGHTS))),
        cross=lambda a, b, _: (a + b) // 2,
        choices=(3, 5),
        decode=decode,
        traits=lambda place: np.array([place / len(HEIGHTS)]),
    )


ON_THE_LINE: dict[str, Method] = methods(POLICY) | {
    # Heats for steps of whole numbers, not of thousandths.
    "annealing": Annealing(hot=5.0, cold=0.1, turns=60),
    "annealing + tabu": AnnealedTabu(heat=5.0, tenure=4, patience=30),
}


@pytest.mark.parametrize("name", ON_THE_LINE)
def test_every_method_reaches_the_highest_peak_and_scores_nothing_twice(name: str) -> None:
    if name.startswith("optuna"):
        pytest.importorskip("optuna")
    space, scored = line(), []

    def height(place: int) -> int:
        scored.append(place)
        return HEIGHTS[place]

    space = Space(**(space.__dict__ | {"objective": height}))
    outcome, ledger = improve(ON_THE_LINE[name], 0, space, after_steps(200), np.random.default_rng(1))
    assert scored[0] == 0
    assert len(scored) == len(set(scored)) == outcome.scored == len(ledger.history)
    assert outcome.score == HEIGHTS[outcome.best]
    assert outcome.best == 8
    assert outcome.steps == 200
    best = [entry.best for entry in ledger.history]
    assert best == [max(map(HEIGHTS.__getitem__, scored[: place + 1])) for place in range(len(scored))]


def test_climbing_without_a_new_start_stays_on_the_lesser_peak() -> None:
    outcome, _ = improve(MultiStart(patience=1000), 0, line(), after_steps(50), np.random.default_rng(0))
    assert outcome.best == 2


def test_annealing_accepts_as_metropolis_does() -> None:
    rng = np.random.default_rng(0)
    assert accepted(0.0, 1e-9, rng)
    share = np.mean([accepted(-0.02, 0.01, rng) for _ in range(20000)])
    assert share == pytest.approx(np.exp(-2), abs=0.01)


def test_a_hybrid_hands_over_the_best_of_its_first_part() -> None:
    seen: list[int] = []

    def second(start: int, space: Space[int, int], ledger: Ledger[int, int], rng: np.random.Generator) -> None:
        seen.append(start)

    improve(Then(Genetic(population=4, turns=6), second), 0, line(), after_steps(100), np.random.default_rng(0))
    assert seen == [8]


def test_the_ledger_stops_a_brood_in_its_middle() -> None:
    ledger = Ledger(HEIGHTS.__getitem__, after_scored(3), float)
    ledger.score(0)
    assert ledger.highest([0, 1, 2, 8]) == 2
    assert set(ledger.known) == {0, 1, 2}
    assert not ledger.goes_on()


def test_the_ledger_has_no_best_before_the_first() -> None:
    with pytest.raises(ValueError, match="nothing has been scored"):
        _ = Ledger(HEIGHTS.__getitem__, after_scored(3), float).best


@pytest.fixture(scope="module")
def lower(tiny: Callable[[int, int], Problem]) -> Lower:
    return lower_level(tiny(8, 3), (INT4,), requests=100)


@pytest.fixture(scope="module")
def first(lower: Lower) -> Solution:
    return start(lower, SPLIT, "cluster", np.random.default_rng(0))


def cold(lower: Lower) -> Lower:
    return Lower(lower.estimator, Race(lower.simulation), lower.keep)


@pytest.mark.parametrize("name", methods(Policy()))
def test_on_a_cluster_no_method_loses_the_start_and_the_seed_decides(name: str, lower: Lower, first: Solution) -> None:
    if name.startswith("optuna"):
        pytest.importorskip("optuna")
    stop = any_of(after_scored(25), after_steps(60))
    found = []
    for _ in range(2):
        space = space_of(cold(lower), SPLIT, first)
        outcome, _ = improve(methods(Policy())[name], first, space, stop, np.random.default_rng(4))
        assert outcome.score >= lower.score(first)
        assert outcome.scored <= 25 + lower.keep  # a turn of tabu search is not cut short
        for solution in outcome.known:
            assert Counter(dict(_cards(solution))) == Counter(dict(enumerate(lower.inventory.counts)))
            assert lower.feasible(solution)
        found.append((outcome.best, outcome.score, list(outcome.known)))
    assert found[0] == found[1]


def test_tabu_behind_the_protocol_is_the_tabu_search_itself(lower: Lower, first: Solution) -> None:
    stop = after_steps(12)
    space = space_of(cold(lower), SPLIT, first)
    outcome, _ = improve(Tabu(), first, space, stop, np.random.default_rng((3,)))
    itself = climb(cold(lower), Settings(SPLIT, stop, seed=(3,)), first)
    assert list(outcome.known.items()) == list(itself.known.items())
    assert outcome.best == itself.best


def _cards(solution: Solution) -> list[tuple[int, int]]:
    total: Counter[int] = Counter()
    for group in solution:
        total.update(dict(group.cards))
    return sorted(total.items())


CARDS = st.lists(st.integers(0, 3), min_size=2, max_size=9)


@given(CARDS, st.randoms(use_true_random=False), st.integers(0, 1000))
def test_crossing_keeps_every_card(kinds: list[int], random, seed: int) -> None:
    def parent() -> Solution:
        labels = [random.randrange(3) for _ in kinds]
        groups = [Counter(kind for kind, own in zip(kinds, labels, strict=True) if own == one) for one in set(labels)]
        return canonical(Group(random.choice(SPLIT), tuple(sorted(group.items()))) for group in groups)

    mother, father = parent(), parent()
    child = crossed(mother, father, np.random.default_rng(seed))
    assert _cards(child) == sorted(Counter(kinds).items())
    assert child == tuple(sorted(child))


def test_crossing_equal_parents_gives_them_again() -> None:
    one = canonical([Group(Phase.PREFILL, ((0, 2),)), Group(Phase.DECODE, ((0, 1), (1, 2)))])
    assert {crossed(one, one, np.random.default_rng(seed)) for seed in range(20)} == {one}


@given(st.lists(st.integers(0, 3), min_size=1, max_size=9), st.integers(1, 4), st.data())
def test_codes_cut_groups_that_hold_the_model(order: list[int], needed: int, data: st.DataObject) -> None:
    code = [data.draw(st.integers(0, 1)) for _ in range(2 * len(order) - 1)]

    def capable(cards: Cards) -> bool:
        return sum(count for _, count in cards) >= needed

    found = cut_along(order, code, capable, SPLIT)
    assert all(group.size >= needed for group in found)
    if len(order) >= needed:
        assert _cards(found) == sorted(Counter(order).items())
    else:
        assert found == ()


def test_codes_reach_all_contiguous_solutions(lower: Lower, first: Solution) -> None:
    order = leaves(lower, first)
    assert sorted(order) == sorted(kind for kind, count in enumerate(lower.inventory.counts) for _ in range(count))
    four = order[:4]
    found = {cut_along(four, code, lambda _: True, SPLIT) for code in product((0, 1), repeat=7)}
    wanted = set()
    for cuts in product((0, 1), repeat=3):
        labels = np.cumsum([0, *cuts])
        runs = [[four[i] for i in range(4) if labels[i] == one] for one in range(labels[-1] + 1)]
        for phases in product(SPLIT, repeat=len(runs)):
            pairs = zip(phases, runs, strict=True)
            wanted.add(canonical(Group(phase, tuple(sorted(Counter(run).items()))) for phase, run in pairs))
    assert found == wanted


def test_traits_count_what_they_say(lower: Lower) -> None:
    devices = [device.id for device in lower.inventory.cluster.devices]
    solution = solution_of(lower.inventory, [(Phase.PREFILL, devices[:4]), (Phase.DECODE, devices[4:])])
    traits = dict(zip(NAMES, space_of(lower, SPLIT, solution).traits(solution), strict=True))
    kinds, nodes = lower.inventory.kind_of, [device.node for device in lower.inventory.cluster.devices]
    parts = devices[:4], devices[4:]
    assert traits["groups a card"] == 2 / 8
    assert traits["kinds a group"] == np.mean([len({kinds[one] for one in part}) for part in parts]) - 1
    assert traits["nodes a group"] == np.mean([len({nodes[one] for one in part}) for part in parts]) - 1
    assert traits["tightest room"] == min(traits["prefill room"], traits["decode room"])


def hill() -> Space[int, int]:
    """Places on a long line; the traits are the height, and a digit that means nothing."""
    return Space(
        **(
            line().__dict__
            | {
                "neighbours": lambda place, count, rng: [place - 1, place + 1],
                "traits": lambda place: np.array([float(place), float(place * 7 % 5)]),
            }
        )
    )


def test_the_gradient_of_a_walk_is_that_of_its_log_probability() -> None:
    """For two neighbours, one step up or down: d log p / dw by central differences."""
    space, weights, small = hill(), np.array([0.3, -0.2]), 1e-6

    def log_chance(given_weights: np.ndarray, way: list[int]) -> float:
        total = 0.0
        for here, there in pairwise(way):
            logits = np.array(
                [(space.traits(one) - space.traits(here)) @ given_weights for one in (here - 1, here + 1)]
            )
            total += logits[0 if there < here else 1] - np.log(np.exp(logits).sum())
        return total

    way, gradient = Policy(tuple(weights), steps=6).walk(space, 10, np.random.default_rng(2))
    for axis in range(2):
        step = small * np.eye(2)[axis]
        slope = (log_chance(weights + step, way) - log_chance(weights - step, way)) / (2 * small)
        assert gradient[axis] == pytest.approx(slope, abs=1e-6)


def test_training_learns_to_climb() -> None:
    policy, rewards = train(
        [Lesson(hill(), 0, float)], np.random.default_rng(0), episodes=150, policy=Policy(steps=8)
    )  # fmt: skip
    assert policy.weights is not None
    assert policy.weights[0] > 0.5
    assert np.mean(rewards[-30:]) > 7  # of 8 steps
    assert np.mean(rewards[:3]) < 4


def test_a_taught_policy_leads_its_walks_up() -> None:
    up, _ = Policy((5.0, 0.0), steps=8).walk(hill(), 0, np.random.default_rng(0))
    assert up == list(range(9))


def test_a_genetic_search_breeds_from_what_was_found_before_it() -> None:
    ledger = improve(Tabu(turns=7), 0, line(), after_steps(50), np.random.default_rng(3))[1]
    assert ledger.turns == 7
    scored = len(ledger.known)
    Genetic(population=16, turns=0)(0, line(), ledger, np.random.default_rng(3))
    assert ledger.turns - 7 == 16 - min(scored, 8)  # so many strangers and mutants were still wanted


def test_the_learned_method_ends_after_its_turns() -> None:
    outcome, _ = improve(Learned(POLICY, turns=2), 0, line(), after_steps(100), np.random.default_rng(0))
    assert outcome.steps == 2


def test_annealed_tabu_goes_back_to_the_best_when_it_is_stale() -> None:
    """Patience too short to cross the valley: it never gets farther from the lesser peak than that many steps."""
    outcome, _ = improve(AnnealedTabu(heat=100.0, patience=4), 0, line(), after_steps(300), np.random.default_rng(0))
    assert outcome.best == 2
    assert max(outcome.known) == 6
