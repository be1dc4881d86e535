"""Step tables and memory put together by layer against what the cost model says of the whole replica."""

import numpy as np
import pytest

from thunderserve.backend import Deployment
from thunderserve.cost.memory import kv_blocks
from thunderserve.policy import Problem
from thunderserve.scheduler.lower import Lower
from thunderserve.scheduler.materialise import plan_of
from thunderserve.scheduler.score import Score
from thunderserve.scheduler.solution import Group, canonical
from thunderserve.simulator.backend import fleet_of
from thunderserve.spec.plan import Phase

MIXED = canonical(
    [
        Group(Phase.PREFILL, ((0, 2), (2, 4))),
        Group(Phase.PREFILL, ((4, 8),)),
        Group(Phase.DECODE, ((1, 4), (0, 2))[::-1]),
        Group(Phase.DECODE, ((3, 4), (5, 4))),
        Group(Phase.DECODE, ((6, 4),)),
    ]
)


def test_tables_equal_the_cost_models_own(cloud: Problem, cloud_lower: Lower) -> None:
    estimate = cloud_lower.estimate(MIXED)
    assert estimate is not None
    plan = plan_of("test", cloud_lower.inventory, estimate, cloud_lower.estimator.deduce.batching)
    bounds = cloud_lower.estimator.deduce.book.bounds
    chosen = [
        one for i, one in enumerate(estimate.configurations) if any(i in (a.prefill, a.decode) for a in estimate.arcs)
    ]
    assert any(len(one.stages) > 1 for one in chosen)
    for replica, configuration in zip(plan.replicas, chosen, strict=True):
        own = cloud.costs.step_table(cloud.model, replica, cloud.cluster, **bounds._asdict())
        composed = cloud_lower.simulation.setup(configuration)
        for name, a, b in zip(own._fields, own, composed.table, strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-12, err_msg=name)
        batching = cloud_lower.estimator.deduce.batching[replica.phase]  # before its sequences were limited
        priced = replica.model_copy(update={"batching": batching})
        assert composed.limits.blocks == kv_blocks(cloud.model, priced, cloud.cluster)
        assert kv_blocks(cloud.model, replica, cloud.cluster) >= composed.limits.blocks


def test_the_score_is_what_the_simulator_says_of_the_plan(cloud: Problem, cloud_lower: Lower) -> None:
    estimate = cloud_lower.estimate(MIXED)
    assert estimate is not None
    plan = plan_of("test", cloud_lower.inventory, estimate, cloud_lower.estimator.deduce.batching)
    trace = cloud_lower.estimator.sample.trace
    ours = cloud_lower.simulation.fleet(estimate).run(trace.arrival_s, trace.prompt_tokens, trace.output_tokens)
    theirs = fleet_of(Deployment(plan, cloud.cluster, cloud.model), cloud.costs).run(
        trace.arrival_s, trace.prompt_tokens, trace.output_tokens
    )
    # Knots end elsewhere (the plan's own sequence limits), so times agree to a part in a thousand, not to the bit.
    np.testing.assert_allclose(ours.requests["finish_s"], theirs.requests["finish_s"], rtol=1e-3)
    score = cloud_lower.score(MIXED)
    assert isinstance(score, Score)
    assert 0 <= score.attainment <= 1
    assert -score.saved_per_hour == pytest.approx(cloud.cluster.price_per_hour, rel=0.2)
