"""Orchestration: shares that respect replicas and links, against HiGHS, brute force and what the eye sees."""

from dataclasses import replace

import numpy as np
import pytest

from thunderserve.policy import Problem
from thunderserve.scheduler import highs
from thunderserve.scheduler.attainment import Network
from thunderserve.scheduler.estimate import network
from thunderserve.scheduler.flows import constraints, orchestrate, worth
from thunderserve.scheduler.lower import Lower
from thunderserve.scheduler.solution import Group, Solution, canonical
from thunderserve.spec.plan import Phase

THREE = canonical(
    [
        Group(Phase.PREFILL, ((0, 2),)),
        Group(Phase.PREFILL, ((4, 4),)),
        Group(Phase.DECODE, ((5, 4),)),
        Group(Phase.DECODE, ((1, 4),)),
    ]
)


def net_of(lower: Lower, solution: Solution, rate_per_s: float) -> Network:
    estimator = lower.estimator
    configured = estimator.configure(solution)
    assert configured is not None
    return network(replace(estimator.sample, rate_per_s=rate_per_s), configured, estimator._arcs(configured))


@pytest.mark.parametrize("rate_per_s", [0.5, 3.0, 12.0])
def test_constraints_hold_and_capacity_is_the_largest(cloud_lower: Lower, rate_per_s: float) -> None:
    net = net_of(cloud_lower, THREE, rate_per_s)
    z, d, attainment, multiple = orchestrate(net, 3, 0.97)
    a, b = constraints(net, 0.97)
    assert (z >= -1e-12).all()
    assert (a @ z <= b + 1e-6).all()
    rows, columns = np.nonzero(a[:-1])
    truth = highs.maximise(np.ones(a.shape[1]), highs.Rows(rows, columns, a[:-1][rows, columns], b[:-1]))
    assert multiple == pytest.approx(truth)
    assert 0 <= attainment <= 1
    assert ((d >= 0) & (d <= 1)).all()


def test_no_split_of_a_fine_grid_is_much_better(cloud_lower: Lower) -> None:
    net = net_of(cloud_lower, THREE, 3.0)
    _, _, attainment, _ = orchestrate(net, 6, 0.97)
    grid, best, d = 12, 0.0, np.empty(4)
    for i in range(grid + 1):
        for j in range(grid + 1 - i):
            for k in range(grid + 1 - i - j):
                z = np.array([i, j, k, grid - i - j - k]) / grid
                best = max(best, worth(net, z, d))
    assert attainment >= best - 0.01


def test_a_link_that_is_full_gets_no_more(cloud_lower: Lower) -> None:
    net = net_of(cloud_lower, THREE, 3.0)
    slow = net._replace(wire_s=np.where(net.target == 0, net.wire_s * 400, net.wire_s))
    z, _, _, _ = orchestrate(slow, 3, 0.97)
    assert z[net.target == 0].sum() < 0.2
    free, _, _, _ = orchestrate(net, 3, 0.97)
    assert free[net.target == 0].sum() > 0.2


def test_flows_sum_to_one_even_when_overloaded(cloud: Problem, cloud_lower: Lower) -> None:
    heavy = replace(cloud_lower.estimator, sample=replace(cloud_lower.estimator.sample, rate_per_s=200.0))
    estimate = heavy(THREE)
    assert estimate is not None
    assert sum(arc.share for arc in estimate.arcs) == pytest.approx(1)
    assert estimate.capacity_per_s < 200
    assert estimate.attainment < 0.05
    light = cloud_lower.estimate(THREE)
    assert light is not None
    # What can be carried does not depend on what is asked.
    assert estimate.capacity_per_s == pytest.approx(light.capacity_per_s, rel=1e-6)
