"""The steps of the tabu search: what was tried, what was taken, what it brought."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from harness.plan.explain import names
from harness.plan.explain.pages import Grid, Section, grid
from harness.plan.make import Search
from thunderserve.scheduler.around import CLOSEST
from thunderserve.scheduler.lower import Lower
from thunderserve.scheduler.solution import Group, Solution
from thunderserve.scheduler.tabu import DEFAULT_PARAMETERS

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST = 14
"""Improvements shown."""
MOVES = ("flip", "split", "merge", "move", "regroup")


def difference(old: Solution, new: Solution) -> tuple[list[Group], list[Group]]:
    """(groups that went, groups that came)."""
    before, after = Counter(old), Counter(new)
    return sorted((before - after).elements()), sorted((after - before).elements())


def name_of(old: Solution, new: Solution) -> str:
    """The move that leads from one solution to a neighbour. A move of cards may also be read as a regroup; then it is a move."""
    gone, come = difference(old, new)
    shape = (len(gone), len(come))
    if shape == (1, 1):
        return "flip"
    if shape == (1, 2):
        return "split"
    if shape == (2, 1):
        return "merge"
    if shape == (2, 2):
        same = sorted(one.phase for one in gone) == sorted(one.phase for one in come)
        return "move" if same else "regroup"
    return "several"


def tried(search: Search, lower: Lower, starts: Sequence[Solution]) -> Section:
    """All steps in two tables."""
    steps = search.steps
    counts: dict[str, Counter[str]] = {what: Counter() for what in ("tried", "taken", "better")}
    rows: list[list[str]] = []
    best = max(lower.score(one) for one in starts)
    for step in steps:
        if not step.restarted:
            for candidate, _ in step.tried:
                counts["tried"][name_of(step.origin, candidate)] += 1
            move = name_of(step.origin, step.current) if step.current != step.origin else "-"
        else:
            move = "restart"
        counts["taken"][move] += 1
        if step.progress.best > best:
            gone, come = difference(step.origin, step.current)
            told = (names.groups(lower.inventory, gone), names.groups(lower.inventory, come))
            if step.restarted:
                told = ("(a shaken copy of the best)", names.groups(lower.inventory, step.current))
            score = step.score
            rows.append(
                [str(step.progress.step), move, *told, f"{score.attainment * 100:.2f}", f"{score.capacity_per_s:.3g}"]
            )
            counts["better"][move] += 1
            best = step.progress.best
    words = (
        f"{len(steps)} steps. Each samples {search.system.neighbours} neighbours, estimates them in closed form, simulates the "
        f"best {search.system.simulate}, and moves to the best of these that is not tabu. After {DEFAULT_PARAMETERS.stale} steps "
        f"without gain all neighbours of a walk's best are estimated, once, and the best {CLOSEST} simulated. Steps that found a "
        "better solution than any before (ties in attainment are decided by capacity, then price):"
    )
    columns = ("step", "move", "groups that went", "groups that came", "in SLO, %", "capacity, req/s")
    blocks = (words, grid(columns, _thinned(rows)), "Moves by kind:", _by_kind(counts))
    files = ("thunderserve/scheduler/moves.py", "thunderserve/scheduler/tabu.py", "thunderserve/scheduler/search.py")
    return Section("Moves tried and taken", files, blocks)


def _thinned(rows: Sequence[list[str]]) -> list[list[str]]:
    """The first and the last improvements, if there are many."""
    if len(rows) <= MOST:
        return list(rows)
    half = MOST // 2
    gap = ["...", "", f"({len(rows) - 2 * half} more)", "", "", ""]
    return [*rows[:half], gap, *rows[-half:]]


def _by_kind(counts: dict[str, Counter[str]]) -> Grid:
    known = [name for name in (*MOVES, "several", "restart", "-") if any(one[name] for one in counts.values())]
    rows = [[name, *(str(counts[what][name]) for what in ("tried", "taken", "better"))] for name in known]
    return grid(("move", "simulated", "taken", "raised the best"), rows)
