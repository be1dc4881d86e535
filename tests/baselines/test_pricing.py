"""What planners reckon with: rates in closed form against simulation, and memories that change nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from problems import problem

from baselines.shared.goodput import BURST, Judge, server
from baselines.shared.layouts import Layouts
from baselines.shared.load import typical
from baselines.shared.memo import Remembered, kind
from baselines.shared.pipelines import find, replica_of
from baselines.shared.rating import Rater, Rating
from baselines.shared.stages import StageBook, colocated_rate_per_s, decode_rate_per_s, prefill_rate_per_s, sequences
from thunderserve.cost.memory import kv_blocks
from thunderserve.cost.source import CostSource
from thunderserve.spec.plan import Batching, Flow, Phase, Plan
from thunderserve.spec.trace import Trace

CHUNKED = Batching(policy="chunked")
ONE_STAGE = [(((0, 1), 60),), (((0, 1, 2, 3), 60),), (((24, 25, 26, 27), 60),)]
TWO_STAGES = (((0, 1), 30), ((2, 3), 30))


def steady():
    """cloud-32 under requests of one length, so that the typical request is every request."""
    made = problem("cloud-32")

    def sample(requests: int, rate_per_s: float, seed: int) -> Trace:
        arrivals = np.cumsum(np.random.default_rng(seed).exponential(1, requests)) / rate_per_s
        return Trace(arrivals, np.full(requests, 700), np.full(requests, 150))

    return replace(made, sample=sample)


def book_of(made) -> StageBook:
    return StageBook(made.cluster, made.model, Remembered(made.costs), typical(made), CHUNKED)


def burst_per_s(made, layout, outputs: int | None) -> float:
    """Requests a second that the simulator gets out of one replica."""
    judge = Judge(made, 800, lambda met: met.joint, outputs=outputs)
    replica = replica_of(layout, Phase.BOTH, CHUNKED)
    records = server(made, (replica,), (Flow(prefill=0, decode=0, share=1.0),))(judge.trace(BURST))
    return len(records) / float(records.finish_s.max())


@pytest.mark.parametrize("layout", [*ONE_STAGE, TWO_STAGES])
def test_prefill_rates_are_those_of_a_simulation(layout) -> None:
    made = steady()
    assert prefill_rate_per_s(book_of(made), layout) == pytest.approx(burst_per_s(made, layout, 1), rel=0.12)


@pytest.mark.parametrize("layout", ONE_STAGE)
def test_colocated_rates_are_those_of_a_simulation(layout) -> None:
    made = steady()
    assert colocated_rate_per_s(book_of(made), layout) == pytest.approx(burst_per_s(made, layout, None), rel=0.2)


def test_pipelines_are_reckoned_a_little_too_fast() -> None:
    """Prefill chunks and decode steps take turns in a pipeline and leave gaps that the closed form does not see."""
    made = steady()
    reckoned, simulated = colocated_rate_per_s(book_of(made), TWO_STAGES), burst_per_s(made, TWO_STAGES, None)
    assert 0.9 * simulated < reckoned < 2 * simulated


def test_decoding_alone_is_faster_than_with_prompts() -> None:
    book = book_of(steady())
    assert all(decode_rate_per_s(book, layout) > colocated_rate_per_s(book, layout) for layout in ONE_STAGE)


@pytest.mark.parametrize("layout", [*ONE_STAGE, TWO_STAGES])
def test_as_many_sequences_fit_as_the_memory_rules_say(layout) -> None:
    made = steady()
    book = book_of(made)
    blocks = kv_blocks(made.model, replica_of(layout, Phase.BOTH, CHUNKED), made.cluster)
    assert sequences(book, layout) == pytest.approx(blocks * CHUNKED.block_tokens / 850, abs=1)


def test_a_layout_found_once_serves_all_groups_like_it() -> None:
    """Other cards of the same makeup get the same stages, on their own cards; another makeup is searched anew."""
    made = steady()
    layouts = Layouts(book_of(made))
    first, second = layouts.best((0, 1, 24, 25), "latency"), layouts.best((2, 3, 26, 27), "latency")
    assert layouts.searched == 1
    assert first is not None
    assert second is not None
    assert second.score == first.score
    assert sorted(card for cards, _ in second.layout for card in cards) == [2, 3, 26, 27]
    assert second == find(book_of(made), (2, 3, 26, 27), "latency")
    layouts.best((0, 2, 24, 25), "latency")  # not a bridged pair
    assert layouts.searched == 2


class Counting:
    """A cost source that counts what it is asked."""

    def __init__(self, source: CostSource) -> None:
        self.source, self.asked = source, 0

    def step_table(self, *args, **bounds):
        self.asked += 1
        return self.source.step_table(*args, **bounds)

    def codec_speed(self, codec):
        return self.source.codec_speed(codec)


def test_remembered_costs_are_the_same_costs_asked_once() -> None:
    made = problem("cloud-32")
    counting = Counting(made.costs)
    costs = Remembered(counting)
    bounds = {"max_tokens": 2048, "max_sequences": 64, "max_context": 2048}

    def table(layout):
        return costs.step_table(made.model, replica_of(layout, Phase.BOTH, CHUNKED), made.cluster, **bounds)

    one, other = table((((0, 1), 60),)), table((((2, 3), 60),))
    assert one is other
    assert counting.asked == 1
    fresh = made.costs.step_table(made.model, replica_of((((2, 3), 60),), Phase.BOTH, CHUNKED), made.cluster, **bounds)
    assert all((a == b).all() for a, b in zip(one, fresh, strict=True))
    assert table((((1, 2), 60),)) is not one  # no bridge joins these
    assert table((((0, 1), 59),)) is not one
    assert counting.asked == 3
    assert kind(made.cluster, (0, 1)) != kind(made.cluster, (16, 17))


def test_ratings_order_by_attainment_then_speed() -> None:
    assert Rating(0.9, 1.0) > Rating(0.8, 5.0)
    assert Rating(0.9, 2.0) > Rating(0.9, 1.0)


def test_a_request_that_never_fits_counts_as_infinitely_slow() -> None:
    made = problem("cloud-32")
    whole = replica_of((((0, 1), 60),), Phase.BOTH, CHUNKED)
    plan = Plan(system="one", replicas=(whole,), flows=(Flow(prefill=0, decode=0, share=1.0),))

    def sample(requests: int, rate_per_s: float, seed: int) -> Trace:
        lengths = np.where(np.arange(requests) == 3, 200_000, 100)
        return Trace(np.arange(requests) / rate_per_s, lengths, np.full(requests, 10))

    changed = replace(made, sample=sample)
    rating = Rater(changed, 10).rate(plan)
    assert rating.attainment <= 0.9
    assert rating.speed_per_s == 0
