"""Large clusters in parts: every card in one part, shares that add up, and a plan of the whole."""

from collections import Counter

import pytest
from planning_problems import make_lower, make_problem

from thunderserve.scheduler.decompose import at_share, joined, parts_of
from thunderserve.scheduler.moves import SPLIT
from thunderserve.scheduler.search import start
from thunderserve.scheduler.system import System
from thunderserve.spec.generate import random_cluster


def test_parts_hold_every_kind_once() -> None:
    lower = make_lower(make_problem(random_cluster(150, 2), "llama-13b", 20.0))
    parts = parts_of(lower, 40)
    assert len(parts) > 2
    total: Counter[int] = Counter()
    for part in parts:
        total.update(dict(part))
        assert lower.capable(part)
    assert total == Counter(dict(enumerate(lower.inventory.counts)))


def test_joining_keeps_shares_and_capacity() -> None:
    import numpy as np

    lower = make_lower(make_problem(random_cluster(60, 4), "llama-13b", 10.0))
    parts = parts_of(lower, 24)
    one = at_share(lower, 0.5)
    assert one.estimator.sample.trace.arrival_s[-1] == pytest.approx(2 * lower.estimator.sample.trace.arrival_s[-1])
    shares = [0.75, 0.25] + [0.0] * (len(parts) - 2)
    estimates = [
        (one.needed(start(one, SPLIT, "cluster", np.random.default_rng(0), cards)), share)
        for cards, share in zip(parts, shares, strict=True)
        if share
    ]
    whole = joined(estimates)
    assert sum(arc.share for arc in whole.arcs) == pytest.approx(1)
    assert len(whole.configurations) == sum(len(estimate.configurations) for estimate, _ in estimates)
    assert whole.capacity_per_s == pytest.approx(min(e.capacity_per_s / share for e, share in estimates))


def test_a_large_cluster_gets_a_plan_that_does_what_it_says() -> None:
    problem = make_problem(random_cluster(96, 5), "llama-13b", 24.0)
    system = System(steps=6, no_gain=4, requests=200, judged_requests=800)
    plan, found = system.search(problem)
    plan.check(problem.cluster, problem.model)
    assert len(found.outcomes) > 1
    assert found.judged.attainment == pytest.approx(found.searched, abs=0.1)
