"""One search from beginning to end."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness import notation
from harness.plan.bottleneck import bottleneck
from harness.plan.explain import configurations, ending, losses, moves, program, start, transfers
from harness.plan.explain.pages import Section, grid
from harness.plan.judge import Verdict
from harness.plan.loss import Loss
from harness.plan.make import Made
from harness.plan.table import workload_of
from harness.sweep.cells import label
from thunderserve.scheduler.lower import Lower
from thunderserve.scheduler.search import starts_of
from thunderserve.spec.errors import SpecError


def tell(made: Made, verdict: Verdict, loss: Loss | None = None, *, seed: int = 0) -> list[Section]:
    """All sections in order. Raises SpecError for a plan whose system does not tell how it searched."""
    search = made.search
    if search is None:
        raise SpecError(
            f"{made.plan.system} does not explain itself", key="--explain", remedy="use --system thunderserve"
        )
    problem = verdict.case.problem(seed)
    lower = search.system.lower(problem)
    first = start.first_solution(search, lower, seed)
    starts, lifted, _ = starts_of(lower, search.system.settings(problem), first)
    if search.found.loads[-1] == 1:  # the steps told are those at the asked load
        lifted = lower
    sections = [
        question(verdict, lower),
        start.cards_and_links(lower),
        start.clusters(lower),
        start.phases(search, lower, first),
        *([start.others(lower, starts[1:])] if starts[1:] else []),
        *([start.load(search, lower, lifted, starts)] if lifted is not lower else []),
        moves.tried(search, lifted, starts),
        configurations.weighed(lower, search.found.estimate),
        transfers.by_pair(lower, verdict),
        program.solved(lower, search.found.estimate),
        ending.judged(search, verdict),
        ending.plan(verdict, bottleneck(verdict)),
    ]
    return [*sections, losses.lost(verdict, loss)] if loss is not None else sections


def question(verdict: Verdict, lower: Lower) -> Section:
    """What is asked, in numbers."""
    case, sample = verdict.case, lower.estimator.sample
    limits = sample.limits
    rows = [
        ["model", f"{case.model.name}: {case.model.num_layers} layers, {case.model.weight_bytes / 1e9:.1f} GB of weights"],
        ["cluster", f"{case.cluster.name}: {len(case.cluster.devices)} cards on {len(case.cluster.nodes)} nodes, "
                    f"{case.cluster.price_per_hour:.3f} USD/h ({case.setting.catalogue} catalogue)"],
        ["workload", f"{workload_of(case)}, {case.rate_per_s:g} req/s; prompts of {sample.mean_prompt:.0f} and outputs of "
                     f"{sample.mean_steps + 1:.0f} tokens on average"],
        ["SLO", f"{label(case.setting.slo)}; on average TTFT {_mean(limits.ttft_s)}, TPOT {_mean(limits.tpot_s)}, "
                f"E2E {_mean(limits.e2e_s)}"],
        ["sample", f"{len(sample.trace)} requests to simulate, {len(sample.prompts)} strata for closed forms, of one draw"],
    ]  # fmt: skip
    return Section(
        "The question", ("thunderserve/policy.py", "thunderserve/scheduler/sample.py"), (grid(("", ""), rows),)
    )


def _mean(values: NDArray[np.float64]) -> str:
    known = values[np.isfinite(values)]
    return notation.seconds(float(known.mean())) if len(known) else "none"
