"""KV transfer by kinds against the cost model's transfer between the cards themselves."""

import pytest

from thunderserve.cost.network import kv_transfer
from thunderserve.policy import Problem
from thunderserve.scheduler.lower import Lower
from thunderserve.scheduler.materialise import plan_of
from thunderserve.scheduler.solution import Group, canonical
from thunderserve.spec.plan import Phase

SOLUTIONS = [
    [
        (Phase.PREFILL, ((0, 2),)),
        (Phase.PREFILL, ((2, 4), (3, 4))),
        (Phase.DECODE, ((1, 4), (6, 2))),
        (Phase.DECODE, ((5, 4),)),
    ],
    [
        (Phase.PREFILL, ((4, 2),)),
        (Phase.DECODE, ((4, 4),)),
        (Phase.DECODE, ((4, 2),)),
        (Phase.PREFILL, ((0, 4), (1, 4))),
    ],
]


@pytest.mark.parametrize("groups", SOLUTIONS)
def test_passages_agree(
    cloud: Problem, cloud_lower: Lower, groups: list[tuple[Phase, tuple[tuple[int, int], ...]]]
) -> None:
    solution = canonical(Group(*group) for group in groups)
    estimate = cloud_lower.estimate(solution)
    assert estimate is not None
    plan = plan_of("test", cloud_lower.inventory, estimate, cloud_lower.estimator.deduce.batching)
    assert len(plan.flows) == len(estimate.arcs)
    for flow, arc in zip(plan.flows, estimate.arcs, strict=True):
        true = kv_transfer(
            cloud.model, plan.replicas[flow.prefill], plan.replicas[flow.decode], cloud.cluster, flow.codec
        )
        assert arc.passage is not None
        assert arc.passage.alpha_s == pytest.approx(true.alpha_s)
        assert arc.passage.encode_s_per_token == pytest.approx(true.encode_s_per_token)
        assert arc.passage.decode_s_per_token == pytest.approx(true.decode_s_per_token)
        between = {link for link in true.links if "/" not in link[0]}
        assert set(arc.passage.links) == between
        # Inside a node the pairs of cards that a stage happens to get may be bridged, and then faster.
        assert arc.passage.wire_s_per_token >= true.wire_s_per_token * (1 - 1e-9)
        if not arc.passage.inside:
            assert arc.passage.wire_s_per_token == pytest.approx(true.wire_s_per_token)
