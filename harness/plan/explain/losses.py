"""Losing cards: lightweight rescheduling beside planning anew."""

from __future__ import annotations

from harness import notation
from harness.plan.explain.pages import Section, grid
from harness.plan.judge import Verdict
from harness.plan.loss import Loss, Replanned
from harness.plan.table import rows


def lost(before: Verdict, loss: Loss) -> Section:
    """All answers in one table, and in words."""
    cluster = before.case.cluster
    types = ", ".join(f"{card} ({cluster.devices[card].gpu})" for card in loss.lost)
    hit = [n for n, replica in enumerate(before.plan.replicas) if set(replica.devices) & set(loss.lost)]
    words = (
        f"The cards {types} fail, and with them replica {', '.join(map(str, hit)) or '(none)'}. "
        "Lightweight rescheduling keeps groups, TP, PP and "
        "layers of the others and changes phases and flows alone, so no card loads weights; "
        "the best of all assignments of phases is the most it could reach. Planning anew may change everything."
    )
    table = [["before the loss", *_measures(before), "-", "-"]]
    deployed = [f"Before: {_shapes(before)}."]
    for title, answer in (
        ("lightweight", loss.light),
        ("the best of all phases", loss.every),
        ("planned anew", loss.full),
    ):
        if isinstance(answer, Replanned):
            table.append([title, *_measures(answer.verdict), notation.seconds(answer.seconds), str(answer.changed)])
            deployed.append(f"{title[0].upper()}{title[1:]}: {_shapes(answer.verdict)}.")
        else:
            table.append([title, "-", "-", "-", "-"])
            deployed.append(f"{title[0].upper()}{title[1:]}: {answer}.")
    columns = ("", "in SLO, %", "replicas", "planned in", "cards that load weights")
    files = ("thunderserve/scheduler/reschedule.py", "harness/plan/loss.py")
    return Section("Losing cards", files, (words, grid(columns, table), *deployed))


def _measures(verdict: Verdict) -> list[str]:
    return [f"{(verdict.attainment().value or 0.0) * 100:.1f}", str(len(verdict.plan.replicas))]


def _shapes(verdict: Verdict) -> str:
    found = rows(verdict.plan, verdict.case.cluster)
    return "; ".join(f"{len(row.replicas)} × {row.cards} ({row.strategy}) {row.phase}" for row in found)
