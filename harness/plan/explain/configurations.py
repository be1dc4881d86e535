"""The parallel configurations that were weighed for each group of the plan."""

from __future__ import annotations

from harness import notation
from harness.plan.explain import names
from harness.plan.explain.pages import Section, grid
from thunderserve.scheduler.configuration import Configuration
from thunderserve.scheduler.estimate import Estimate
from thunderserve.scheduler.lower import Lower
from thunderserve.scheduler.weigh import best_within
from thunderserve.spec.plan import Phase

MOST = 5
"""Configurations shown for a group."""


def weighed(lower: Lower, estimate: Estimate) -> Section:
    """Each different group of the plan: the configuration it got, then the best others."""
    rows = []
    taken = dict(zip(estimate.solution, estimate.configurations, strict=True))
    for group, chosen in taken.items():
        others = [one for one in lower.estimator.deduce.options(group) if one.stages != chosen.stages]
        others.sort(key=lambda one: value(lower, one), reverse=True)
        rows.append([names.group(lower.inventory, group), *_row(lower, chosen), "taken"])
        rows += [["", *_row(lower, one), ""] for one in others[: MOST - 1]]
        if len(others) > MOST - 1:
            rows.append(["", f"... {len(others) - MOST + 1} more", "", ""])
    sample = lower.estimator.sample
    words = (
        "Prefill takes the configuration with the least mean latency of one prompt, decode the one with the most tokens a second "
        f"while tokens are no more than {notation.seconds(sample.tpot_target_s)} apart, at a mean context of "
        f"{sample.mean_context:.0f} tokens. Layers are dealt by speed, within memory."
    )
    columns = ("group", "stages in order", "worth", "")
    files = (
        "thunderserve/scheduler/deduce.py",
        "thunderserve/scheduler/cuts.py",
        "thunderserve/scheduler/route.py",
        "thunderserve/scheduler/weigh.py",
        "thunderserve/scheduler/layers.py",
    )
    return Section("Parallel configurations weighed", files, (words, grid(columns, rows)))


def value(lower: Lower, one: Configuration) -> float:
    """What a configuration is chosen by; larger is better."""
    if one.phase is Phase.PREFILL:
        return -float(one.latency_s.mean())
    return float(best_within(one.rate_per_s, one.cycle_s, lower.estimator.sample.tpot_target_s))


def _row(lower: Lower, one: Configuration) -> list[str]:
    worth = value(lower, one)
    if one.phase is Phase.PREFILL:
        words = f"{notation.seconds(-worth)} latency, {notation.seconds(one.busy_s)} busiest stage"
    elif worth < 0:
        words = f"tokens {notation.seconds(-worth)} apart at best"
    else:
        words = f"{notation.number(worth)} tokens/s"
    return [names.stages(lower.inventory, one.stages), words]
