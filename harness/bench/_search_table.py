"""Tables of the search bench, as text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.bench._search_runs import Budget, Run
from harness.statistics import repeats


def table(runs: Sequence[Run], budget: Budget, reference: str = "tabu") -> str:
    """A block a problem: best attainment at equal evaluations and at equal seconds, and what it was worth elsewhere."""
    blocks = []
    for problem in dict.fromkeys(one.problem for one in runs):
        own = [one for one in runs if one.problem == problem]
        against = [one for one in own if one.method == reference]
        head = (
            f"{problem}\n{'method':18} {f'at {budget.evaluations} evals':>14} {f'at {budget.seconds:g} s':>10} {'least':>6} "
            f"{f'less {reference} at {budget.seconds:g} s':>26} {'judged':>7} {'evals/s':>8} {'estimates':>9}"
        )
        rows = [
            _row(name, [one for one in own if one.method == name], against, budget)
            for name in dict.fromkeys(one.method for one in own)
        ]
        blocks.append("\n".join([head, *rows]))
    return "\n\n".join(blocks)


def _row(name: str, runs: Sequence[Run], against: Sequence[Run], budget: Budget) -> str:
    evaluations = [one.at_evaluations(budget.evaluations) for one in runs]
    seconds = [one.at_seconds(budget.seconds) for one in runs]
    short = "*" if any(one.scored[-1] < budget.evaluations for one in runs) else " "
    speed = np.mean([one.scored[-1] / max(one.elapsed_s[-1], 1e-9) for one in runs])
    return (
        f"{name:18} {np.mean(evaluations):13.4f}{short} {np.mean(seconds):10.4f} {min(seconds):6.3f} "
        f"{difference(seconds, [one.at_seconds(budget.seconds) for one in against]):>26} "
        f"{np.mean([one.judged for one in runs]):7.4f} {speed:8.0f} {np.mean([one.estimated for one in runs]):9.0f}"
    )


def difference(values: Sequence[float], others: Sequence[float]) -> str:
    """Mean difference with its 95 % interval, seed by seed (seeds are independent, so pairing them is as good as any)."""
    gaps = [a - b for a, b in zip(values, others, strict=False)]
    if not gaps:
        return "-"
    found = repeats.signed(gaps)
    low, high = found.interval or (found.value, found.value)
    return f"{found.value:+.4f} [{low:+.4f}, {high:+.4f}]"


def better(runs: Sequence[Run], budget: Budget, reference: str = "tabu") -> list[str]:
    """Methods whose interval at equal seconds, over all problems and seeds together, lies above the reference's."""
    problems = list(dict.fromkeys(one.problem for one in runs))
    lines = []
    for name in dict.fromkeys(one.method for one in runs):
        if name == reference:
            continue
        values, others = (
            [one.at_seconds(budget.seconds) for p in problems for one in runs if one.problem == p and one.method == who]
            for who in (name, reference)
        )
        found = repeats.signed([a - b for a, b in zip(values, others, strict=False)])
        verdict = "no clear difference"
        if found.interval is not None and min(found.interval) > 0:
            verdict = "BETTER"
        elif found.interval is not None and max(found.interval) < 0:
            verdict = "worse"
        lines.append(f"{name:18} {difference(values, others):>26}  {verdict}")
    return lines
