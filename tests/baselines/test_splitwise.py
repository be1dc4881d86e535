"""Splitwise: pool sizes against trying all of them, who gets the prompts, and the plans it makes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from problems import problem

from baselines.shared.rating import Rater
from baselines.splitwise import SCALES, Pools, System
from thunderserve.backend import Deployment
from thunderserve.spec.plan import Phase

QUICK = System(requests=200)


@pytest.mark.parametrize("cluster", ["inhouse-8xa100", "cloud-20-four-types"])
def test_the_pools_are_as_good_as_any(cluster) -> None:
    """Every prompt, token and mixed pool, of every size of machine, in the same simulation."""
    made = problem(cluster, rate_per_s=8.0)
    rater = Rater(made, QUICK.requests)
    every = []
    for fleet in dict.fromkeys(QUICK._fleet(made, scale) for scale in SCALES):
        count = len(fleet)
        pools = [Pools(p, t, count - p - t) for p in range(1, count) for t in range(1, count - p + 1)]
        allowed = [one for one in pools if one.mixed <= count / 4]
        every += [rater.rate(QUICK._plan(made, fleet, one, {})) for one in allowed]
    assert rater.rate(QUICK.plan(made)) == max(every)


def test_a_coarse_grid_climbs_to_a_good_pool() -> None:
    """Four sizes instead of all: few simulations, and hardly worse."""
    made = problem("cloud-32", rate_per_s=8.0)
    fine, coarse = QUICK.plan(made), replace(QUICK, steps=4).plan(made)
    rater = Rater(made, QUICK.requests)
    assert rater.rate(coarse).attainment >= rater.rate(fine).attainment - 0.05
    assert int(coarse.notes["search"].split()[0]) < int(fine.notes["search"].split()[0])


@pytest.mark.parametrize("cluster", ["cloud-8-a40-3090ti-40gbit", "cloud-32"])
def test_cards_rich_in_compute_take_the_prompts(cluster) -> None:
    """No token machine has more compute for its bandwidth than a prompt machine."""
    made = problem(cluster)
    plan = QUICK.plan(made)

    def intensities(phase):
        cards = [made.cluster.gpu(replica.devices[0]) for replica in plan.replicas if replica.phase is phase]
        return [card.flops / card.memory_bytes_per_s for card in cards]

    assert min(intensities(Phase.PREFILL)) >= max(intensities(Phase.DECODE))
    assert max(intensities(Phase.PREFILL)) > min(intensities(Phase.DECODE))


def test_prompt_machines_feed_all_others_and_token_machines_none() -> None:
    plan = System(prompt=2, token=3, requests=100).plan(problem("homogeneous-8xl40s", "llama-7b"))
    phases = [replica.phase for replica in plan.replicas]
    assert phases.count(Phase.PREFILL) == 2
    assert phases.count(Phase.DECODE) == 3
    assert plan.router == "fewest_tokens"
    joined = {(phases[flow.prefill], phases[flow.decode]) for flow in plan.flows}
    mixed = {(Phase.PREFILL, Phase.BOTH), (Phase.BOTH, Phase.DECODE), (Phase.BOTH, Phase.BOTH)}
    assert joined == {(Phase.PREFILL, Phase.DECODE), *mixed}
    assert all(flow.prefill == flow.decode for flow in plan.flows if phases[flow.prefill] is phases[flow.decode])
    assert len(plan.flows) == 2 * 6 + 3 * 3 + 3


def test_queues_decide_where_a_request_goes() -> None:
    """Ties go to the first prompt machine; its queue sends the rest on, and more of it when there is more."""
    made = problem("homogeneous-8xl40s", "llama-7b")
    plan = System(prompt=4, token=4, requests=100).plan(made)

    def shares(rate_per_s):
        rater = Rater(replace(made, rate_per_s=rate_per_s), 400)
        records = rater.backend.serve(Deployment(plan, made.cluster, made.model), rater.trace).records
        return [float((records.prefill_replica == index).mean()) for index in range(4)]

    idle, busy = shares(0.05), shares(1000.0)
    assert idle[0] > 0.95
    assert busy == pytest.approx([0.25] * 4, abs=0.05)


@pytest.mark.parametrize("cluster", ["cloud-32", "cloud-8-a40-3090ti-5gbit", "homogeneous-8xl40s"])
def test_its_plans_can_run_and_repeat(cluster) -> None:
    made = problem(cluster)
    plan = QUICK.plan(made)
    assert plan == QUICK.plan(made)
    plan.check(made.cluster, made.model)
    assert {Phase.PREFILL, Phase.DECODE} <= {replica.phase for replica in plan.replicas}
    assert Rater(made, 200).rate(plan).attainment > 0


def test_what_cannot_be_shared_out_is_refused_in_words() -> None:
    made = problem("cloud-8-a40-3090ti-40gbit")
    deep = replace(made, model=made.model.model_copy(update={"name": "deep", "num_layers": 100}))
    with pytest.raises(
        ValueError, match=r"splitwise: cloud-8-a40-3090ti-40gbit does not make two machines that hold deep"
    ):
        QUICK.plan(deep)
    with pytest.raises(ValueError, match=r"splitwise: prompt=9 and token=None do not share out"):
        replace(QUICK, prompt=9).plan(made)
