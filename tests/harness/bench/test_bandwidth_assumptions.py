"""What the eight-GPU test's ratio depends on: static batches are what they claim, and the table is whole."""

from __future__ import annotations

import numpy as np
import pytest

from harness.bench import _bandwidth_assumptions as assumptions
from harness.bench._bandwidth_runs import Best, best_of, flood, makespan_s
from thunderserve.spec.plan import Flow, Plan
from thunderserve.spec.trace import Trace

REQUESTS = 40


@pytest.fixture(scope="module")
def best() -> Best:
    return best_of(*assumptions.WHOLE, assumptions.SURROUNDINGS[0].cases([4.0]), REQUESTS)


def test_outputs_are_padded_to_the_longest_of_their_batch() -> None:
    trace = Trace(np.zeros(5), np.full(5, 10), np.array([1, 4, 2, 2, 7]))
    assert assumptions.longest_of_batch(trace, 2).tolist() == [4, 4, 2, 2, 7]


def test_one_request_at_a_time_takes_the_sum_of_all_alone(best: Best) -> None:
    trace = flood(best.case, REQUESTS)
    tokens = trace.prompt_tokens + trace.output_tokens
    expected = 0.0
    for replica in best.plan.replicas:
        alone = Plan(system="alone", replicas=(replica,), flows=(Flow(prefill=0, decode=0, share=1.0),))
        single = [Trace(np.zeros(1), trace.prompt_tokens[[i]], trace.output_tokens[[i]]) for i in range(REQUESTS)]
        expected += tokens.sum() / sum(makespan_s(best.case, alone, one) for one in single)
    assert assumptions.static(1)(best, trace) == pytest.approx(expected, rel=0.01)


def test_static_batches_serve_less_than_continuous_ones(best: Best) -> None:
    trace = flood(best.case, 400)
    assert assumptions.static(8)(best, trace) < assumptions.as_planned(best, trace)


def test_a_row_has_a_ratio_for_every_baseline() -> None:
    (row,) = assumptions.rows([4.0], REQUESTS, assumptions.SURROUNDINGS[2:3])
    assert len(row.ratios) == len(assumptions.BASELINES)
    assert min(row.ratios) > 0
    assert assumptions.table([row]).row_count == 1
