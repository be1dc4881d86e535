"""What the planner knows of the workload: means of many requests, a stratified trace to simulate, strata for closed forms.

All come from one seeded draw. Stratifying takes most of the luck out of a short trace: its lengths have the means of the
whole draw, and its arrivals the rate that was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from thunderserve.cost.step_table import Floats, Ints
from thunderserve.policy import Problem
from thunderserve.spec.slo import Latencies
from thunderserve.spec.trace import Trace

DRAWN = 4096
"""Requests that stand for the workload."""


@dataclass(frozen=True)
class Sample:
    """N requests for the simulator, and R strata of a larger draw for closed forms, all with their limits."""

    rate_per_s: float
    trace: Trace
    limits: Latencies
    prompts: Floats
    """(R,) mean prompt tokens of a stratum; all strata hold equally many requests."""
    steps: Floats
    """(R,) mean decode steps: the first token comes from prefill."""
    strata_limits: Latencies
    """(R,) mean limits. TPOT is infinite where no request has a second token."""
    tpot_target_s: float
    """The TPOT that nine of ten requests of several tokens allow."""
    mean_context: float
    """Tokens in cache of a decoding sequence, averaged over the steps (long outputs are in more of them)."""
    longest: int
    """Tokens of the longest request, prompt and output."""

    @property
    def mean_prompt(self) -> float:
        """Tokens."""
        return float(self.prompts.mean())

    @property
    def mean_steps(self) -> float:
        """Decode steps a request."""
        return max(float(self.steps.mean()), 1e-9)


def draw(problem: Problem, requests: int, strata: int, seed: int) -> Sample:
    """Draw for ``problem``. Raises ValueError for a workload without requests."""
    whole = problem.sample(max(DRAWN, requests), problem.rate_per_s, seed)
    if not len(whole):
        raise ValueError("the workload has no requests to plan for")
    limits = problem.slo.limits(problem.alone(whole))
    cells = stratified(whole, min(strata, len(whole)))
    steps = (whole.output_tokens - 1).astype(np.float64)
    contexts = whole.prompt_tokens + whole.output_tokens / 2
    target = limits.tpot_s[whole.output_tokens > 1]
    trace, trace_limits = trace_of(problem, whole, limits, requests, seed)
    return Sample(
        rate_per_s=problem.rate_per_s,
        trace=trace,
        limits=trace_limits,
        prompts=_means(whole.prompt_tokens, cells),
        steps=_means(steps, cells),
        strata_limits=Latencies(
            _means(limits.ttft_s, cells), _tpot(limits.tpot_s, whole.output_tokens, cells), _means(limits.e2e_s, cells)
        ),
        tpot_target_s=float(np.quantile(target, 0.1)) if len(target) else np.inf,
        mean_context=float((steps * contexts).sum() / steps.sum()) if steps.any() else float(contexts.mean()),
        longest=int((whole.prompt_tokens + whole.output_tokens).max()),
    )


def further(problem: Problem, sample: Sample, requests: int, seed: int) -> Sample:
    """The same knowledge of the workload with another trace: ``requests`` requests of a draw of its own."""
    drawn = draw(problem, requests, 1, seed)
    return replace(sample, trace=drawn.trace, limits=drawn.limits)


def at_rate(sample: Sample, rate_per_s: float) -> Sample:
    """The same requests, arriving at another rate."""
    trace = sample.trace
    arrival_s = trace.arrival_s * (sample.rate_per_s / rate_per_s)
    return replace(sample, rate_per_s=rate_per_s, trace=Trace(arrival_s, trace.prompt_tokens, trace.output_tokens))


def trace_of(problem: Problem, whole: Trace, limits: Latencies, requests: int, seed: int) -> tuple[Trace, Latencies]:
    """One request of each of ``requests`` strata, in the order drawn, with arrivals of their own at the exact rate."""
    rng = np.random.default_rng((seed, requests))
    cells = stratified(whole, min(requests, len(whole)))
    chosen = np.sort([cell[int(place * len(cell))] for cell, place in zip(cells, rng.random(len(cells)), strict=True)])
    arrival_s = problem.sample(len(chosen), problem.rate_per_s, seed).arrival_s
    if len(chosen) > 1 and arrival_s[-1] > 0:
        arrival_s = arrival_s * (len(chosen) / problem.rate_per_s / arrival_s[-1])
    trace = Trace(arrival_s, whole.prompt_tokens[chosen], whole.output_tokens[chosen])
    return trace, Latencies(*(np.ascontiguousarray(limit[chosen]) for limit in limits))


def stratified(trace: Trace, count: int) -> list[Ints]:
    """``count`` strata of about equally many requests (their indices): by prompt, and within that by output."""
    columns = max(int(np.sqrt(count)), 1)
    by_prompt = np.lexsort((trace.output_tokens, trace.prompt_tokens))
    strata: list[Ints] = []
    bounds = np.linspace(0, count, columns + 1).round().astype(int)
    for low, high in pairwise(bounds):
        part = by_prompt[low * len(trace) // count : high * len(trace) // count]
        inner = part[np.lexsort((trace.prompt_tokens[part], trace.output_tokens[part]))]
        strata += [cell for cell in np.array_split(inner, high - low) if len(cell)]
    return strata


def _means(values: Floats | Ints, cells: list[Ints]) -> Floats:
    return np.array([values[cell].mean() for cell in cells])


def _tpot(limit_s: Floats, outputs: Ints, cells: list[Ints]) -> Floats:
    """Mean limit of those with a second token."""
    found = np.full(len(cells), np.inf)
    for place, cell in enumerate(cells):
        several = cell[outputs[cell] > 1]
        if len(several):
            found[place] = limit_s[several].mean()
    return found
