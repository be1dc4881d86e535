"""The words of this report, each with its formula."""

from __future__ import annotations

from harness import metrics
from harness.report.markup import Row, tag
from harness.statistics.binomial import minimum_trials

WORDS: tuple[Row, ...] = (
    ("Offered requests", "The schedule (arrivals and lengths) is made once for each workload, rate and seed, and fed to every "
     "system; its SHA-256 stands in every result. Rates in tables are those asked for; the schedule's own is beside them."),
    ("Clock", "Every latency counts from the intended arrival, so time in any queue is inside. A run is drained to its last "
     "request, never cut."),
    ("SLO, scale", "Limits on TTFT, TPOT and E2E: absolute, or k times the latency of that very request alone on the "
     "reference card (label xk). A cell is served once and judged at every SLO from its saved requests."),
    ("SLO attainment", "Requests within their limits / requests offered. An error, a timeout or a reject is a miss. Joint: "
     "all limits at once. One output token has no TPOT and meets its limit."),
    ("Goodput", "Good requests a second at the rate of the cell. Not the highest rate a system holds: that is capacity."),
    ("capacity@90", "The highest rate at which 90 % of the requests or more are within the SLO, with its bracket: the highest "
     "rate seen to hold and the lowest above it seen to fail. holds / fails / undetermined is a one-sided exact binomial test "
     "at each end, as MLPerf's early stopping, with correlated requests counted for less. No fewer than "
     f"{minimum_trials(0.9, 0.95)} independent requests, all of them good, can prove 90 % with 95 % confidence."),
    ("Intervals", "95 %. Shares: Clopper-Pearson, cut to the effective number of independent requests (Korn and Graubard). "
     "Percentiles: order statistics. Means in one run: bootstrap of blocks of neighbours. Over seeds: Student's, on the "
     "logarithm; shares with the spread between seeds as their design effect. None leaves the metric's domain. They are for "
     "one comparison at a time: of twenty true ties, one may look like a difference."),
    ("Paired difference", "Two systems on the same requests, subtracted request by request. The interval is the hull of the "
     "block bootstrap and, from three seeds on, of Student's over the seeds."),
    ("Percentiles", "Nearest rank: a latency that some request had. Marked where the sample is too small for an interval."),
)  # fmt: skip


def definitions() -> str:
    """Two description lists: the words above, and every metric from its own file."""
    general = "".join(tag("dt", word) + tag("dd", text) for word, text in WORDS)
    own = []
    for name in metrics.names():
        metric = metrics.describe(name)
        better = {"up": "higher is better", "down": "lower is better", "": "neither way is better"}[metric.direction]
        formula = tag("code", metric.formula)
        own.append(
            tag("dt", name) + f"<dd>{formula} [{tag('span', metric.unit)}; {better}]. {tag('span', metric.doc)}</dd>"
        )
    return f"<dl>{general}</dl><h3>Metrics</h3><dl>{''.join(own)}</dl>"
