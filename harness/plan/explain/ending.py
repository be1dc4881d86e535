"""The end of a search: the finalists, how far each estimate was off, and the plan."""

from __future__ import annotations

from harness.plan.bottleneck import Bottleneck
from harness.plan.explain.pages import Section, grid
from harness.plan.judge import Verdict
from harness.plan.make import Search
from harness.plan.table import headroom_words, idle_cards, rows, sentences


def judged(search: Search, verdict: Verdict) -> Section:
    """The same plan by four measures."""
    found, joint = search.found, verdict.attainment()
    low, high = joint.interval or (0.0, 1.0)
    system, exact = search.system, f"{(joint.value or 0) * 100:.1f} ({low * 100:.1f} to {high * 100:.1f})"
    measures = [
        ["closed form", "-", f"{found.estimate.attainment * 100:.1f}"],
        [
            "simulated on the search's own samples",
            f"{system.requests + system.longer_requests:,}",
            f"{found.searched * 100:.1f}",
        ],
        ["simulated on the last round's sample", f"{system.judged_requests:,}", f"{found.judged.attainment * 100:.1f}"],
        ["full simulation on a trace of the workload", f"{len(verdict.trace):,}", exact],
        ["upper bound on any plan", "-", f"{search.bound.attainment * 100:.1f}"],
    ]
    table = grid(("measure", "requests", "in SLO, %"), measures)
    scored = sum(one.scored for one in search.found.outcomes)
    words = (
        f"The search has looked at {scored} solutions on {system.requests:,} requests{found.load_words}, and at those that kept "
        f"up with the best on {system.longer_requests:,} more; its best score is still partly luck: the {system.finalists} best "
        f"are judged on others, the {system.corrections} best of these with flows corrected by simulation too, and the winner "
        f"is the plan. In capacity it has {found.judged.capacity_per_s:.3g} req/s in closed form, of which the relaxation allows "
        f"{search.bound.capacity_per_s:.3g}{headroom_words(search, verdict.case.rate_per_s)}."
    )
    files = ("thunderserve/scheduler/select.py", "thunderserve/scheduler/score.py", "thunderserve/scheduler/bound.py")
    return Section("The last choice, and how far estimates are off", files, (words, table))


def plan(verdict: Verdict, limit: Bottleneck) -> Section:
    """The deployment, as a table like the paper's."""
    cluster = verdict.case.cluster
    told = []
    for row in rows(verdict.plan, cluster):
        loads = [verdict.replicas[number] for number in row.replicas]
        share = sum(max(load.prefilled, load.decoded) for load in loads)
        numbers = ", ".join(map(str, row.replicas))
        told.append(
            [row.cards, row.strategy, row.layers, str(len(row.replicas)), row.phase, numbers, f"{share * 100:.0f}"]
        )
    if idle := idle_cards(verdict.plan, cluster):
        told.append([idle, "", "", "", "unused", "", ""])
    columns = ("GPU configuration", "strategy", "layers", "replicas", "type", "numbers", "of the requests, %")
    words = " ".join(sentences(verdict.case, None, verdict, limit))
    return Section("The plan", ("thunderserve/scheduler/materialise.py",), (grid(columns, told), words))
