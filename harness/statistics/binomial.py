"""Shares of requests: exact tails, intervals inside [0, 1], and verdicts against a target."""

from __future__ import annotations

import math
from typing import Literal

from harness.statistics.beta import beta_quantile, incomplete_beta
from harness.statistics.value import CONFIDENCE, Interval

Verdict = Literal["holds", "fails", "undetermined"]


def at_least(successes: float, trials: float, share: float) -> float:
    """P(X >= successes) for X ~ Binomial(trials, share), exact."""
    if successes <= 0:
        return 1.0
    return incomplete_beta(successes, trials - successes + 1, share) if successes <= trials else 0.0


def at_most(successes: float, trials: float, share: float) -> float:
    """P(X <= successes) for X ~ Binomial(trials, share), exact."""
    if successes >= trials:
        return 1.0
    return incomplete_beta(trials - successes, successes + 1, 1 - share) if successes >= 0 else 0.0


def share_interval(successes: float, trials: float, *, confidence: float = CONFIDENCE, effect: float = 1.0) -> Interval:
    """Clopper and Pearson's interval (Biometrika 1934) for a share; never leaves [0, 1].

    ``effect`` is the design effect of correlated trials: the interval is that of ``trials / effect`` independent ones
    with the same share (Korn and Graubard, Survey Methodology 1998).
    """
    if trials <= 0:
        return 0.0, 1.0
    independent = trials / effect
    wins = successes / effect
    losses = independent - wins
    alpha = (1 - confidence) / 2
    low = beta_quantile(wins, losses + 1, alpha) if wins > 0 else 0.0
    high = beta_quantile(wins + 1, losses, 1 - alpha) if losses > 0 else 1.0
    return low, high


def verdict(successes: float, trials: float, target: float, confidence: float = 0.99, effect: float = 1.0) -> Verdict:
    """Does the true share reach ``target``? One-sided exact tests at ``confidence``, as MLPerf's early stopping.

    ``holds`` when this many successes would be rarer than 1 - confidence at a true share of ``target``, ``fails`` when
    this few would be; otherwise the sample decides nothing. ``effect`` as in ``share_interval``.
    """
    if trials <= 0:
        return "undetermined"
    wins, independent = successes / effect, trials / effect
    if at_least(wins, independent, target) <= 1 - confidence:
        return "holds"
    return "fails" if at_most(wins, independent, target) <= 1 - confidence else "undetermined"


def minimum_trials(target: float, confidence: float = 0.99) -> int:
    """The fewest requests that can prove a share of ``target``: when all are good. 44 for 90 %, 459 for 99 %."""
    return math.ceil(math.log(1 - confidence) / math.log(target))
