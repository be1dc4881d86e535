"""Losing cards: what is left of a cluster, what must be loaded again, and both answers."""

from __future__ import annotations

import pytest

from harness.plan.case import Case
from harness.plan.explain import losses
from harness.plan.judge import Verdict
from harness.plan.loss import Replanned, after_loss, reloaded, remaining, renumbered
from harness.plan.make import Made
from thunderserve.spec.errors import SpecError
from thunderserve.spec.load import load_cluster
from thunderserve.spec.plan import Plan


def test_what_is_left_of_a_cluster() -> None:
    cluster = load_cluster("cloud-20-three-types")
    left, ids = remaining(cluster, [0, 9, 16, 17, 18, 19])
    assert ids == [*range(1, 9), *range(10, 16)]
    assert [left.devices[new].gpu for new in range(14)] == [cluster.devices[old].gpu for old in ids]
    assert left.nodes == ("a40", "a6000")
    assert set(left.inside) == {"a40", "a6000"}
    for a in range(14):
        for b in range(14):
            assert a == b or left.link(a, b) == cluster.link(ids[a], ids[b])
    with pytest.raises(SpecError, match="all cards are lost"):
        remaining(cluster, range(20))


def test_a_plan_by_other_numbers(plan: Plan) -> None:
    other = renumbered(plan, [10, 11, 12, 13, 14, 15, 16, 17])
    assert [replica.devices for replica in other.replicas] == [(10, 11), (12, 13), (14, 15), (16, 17)]
    assert other.flows == plan.flows


def test_cards_that_must_load_weights(plan: Plan) -> None:
    assert reloaded(plan, plan) == 0
    flipped = plan.model_copy(update={"replicas": (*plan.replicas[2:], *plan.replicas[:2])})
    assert reloaded(plan, flipped) == 0  # the order of replicas says nothing of cards
    first = plan.replicas[1]
    dealt = tuple(stage.model_copy(update={"num_layers": 20}) for stage in first.stages)
    evened = plan.model_copy(
        update={"replicas": (plan.replicas[0], first.model_copy(update={"stages": dealt}), *plan.replicas[2:])}
    )
    assert reloaded(plan, evened) == 2


def test_both_answers_avoid_what_is_lost(case: Case, made: Made, searched: Verdict) -> None:
    lost = made.plan.replicas[-1].devices[:1]
    loss = after_loss(case, made, lost, requests=200, seed=0)
    for answer in (loss.light, loss.every, loss.full):
        if isinstance(answer, Replanned):
            used = {card for replica in answer.verdict.plan.replicas for card in replica.devices}
            assert not used & set(lost)
    if isinstance(loss.light, Replanned):
        assert loss.light.changed == 0
    section = losses.lost(searched, loss)
    assert str(lost[0]) in str(section.blocks[0])


def test_only_cards_that_there_are_can_be_lost(case: Case, made: Made) -> None:
    with pytest.raises(SpecError, match="no such card"):
        after_loss(case, made, [8], requests=10, seed=0)
