"""The workload as closed forms see it: one typical request."""

from __future__ import annotations

from typing import NamedTuple

from thunderserve.policy import Problem

SAMPLE = 1000


class Load(NamedTuple):
    """Means over a seeded sample of the workload."""

    prompt_tokens: float
    output_tokens: float
    longest: int
    """Prompt and output together of the longest request of the sample: a replica must be able to hold it."""

    @property
    def decode_steps(self) -> float:
        """Steps after the prefill, which makes the first token."""
        return max(self.output_tokens - 1, 0.0)

    @property
    def context(self) -> float:
        """Keys a sequence has on average while it decodes."""
        return self.prompt_tokens + self.output_tokens / 2


def typical(problem: Problem) -> Load:
    """The mean request of the problem's workload, the same for the same seed."""
    trace = problem.sample(SAMPLE, problem.rate_per_s, problem.seed)
    longest = int((trace.prompt_tokens + trace.output_tokens).max())
    return Load(float(trace.prompt_tokens.mean()), float(trace.output_tokens.mean()), longest)
