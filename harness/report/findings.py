"""Who wins where, in sentences: each with its numbers, and with an honest verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from harness import comparison, notation
from harness.comparison import Group, Holding, Place

if TYPE_CHECKING:
    from harness.result import SweepResult

TARGET = 0.9


def findings(result: SweepResult) -> list[str]:
    """One sentence or two for each setting, at the SLO that plans were made for; then what a reader must be warned of."""
    label = comparison.planning_label(result)
    found = comparison.groups(result)
    sentences = list(_capacities(found))
    by_rate = [group for group in found if not comparison.is_capacity(group.cells[0])]
    for setting in dict.fromkeys(group.place.setting for group in by_rate):
        row = [group for group in by_rate if group.place.setting == setting]
        sentences.append(f"{_where(setting, found)}: {' '.join(_setting(row, label))}")
    if result.failed:
        count = "1 cell" if len(result.failed) == 1 else f"{len(result.failed)} cells"
        sentences.append(f"{count} failed: no figure or table knows of what failed.")
    return sentences


def _where(place: Place, found: Sequence[Group]) -> str:
    """The workload, and of the other axes those that vary."""
    others = {
        name: {getattr(group.place, name) for group in found} for name in ("cluster", "model", "catalogue", "backend")
    }
    return " on ".join([place.workload, *(getattr(place, name) for name, values in others.items() if len(values) > 1)])


def _setting(row: Sequence[Group], label: str) -> Iterator[str]:
    systems = list(dict.fromkeys(group.system for group in row))
    rates = {group.place.rate_per_s for group in row}
    at = max((rate for rate in rates if rate is not None), default=None)
    if len(rates) > 1:
        held = {name: comparison.holding([g for g in row if g.system == name], label, TARGET) for name in systems}
        yield _held(held, label)
        at = max(
            (h.holds for h in held.values() if h.holds is not None), default=min(r for r in rates if r is not None)
        )
    rivals = [group for group in row if group.place.rate_per_s == at]
    if len(rivals) > 1:
        yield _duel(rivals, label)
    elif len(rates) == 1:
        share = rivals[0].value(label, "slo_attainment")
        yield f"{rivals[0].system} serves {notation.span('slo_attainment', share)} % of requests within SLO {label}."


def _held(held: dict[str, Holding], label: str) -> str:
    ordered = sorted(held.items(), key=lambda item: -(item[1].holds or 0.0))
    parts = [f"{name} {_rate_words(found)}" for name, found in ordered]
    best, second = ordered[0][1].holds, ordered[1][1].holds if len(ordered) > 1 else None
    if len(ordered) > 1 and best is not None:
        parts[0] += ", a tie" if best == second else f", {best / second:.3g} times as much" if second else ""
    return f"{TARGET * 100:g} % of requests stay within SLO {label} with {'; with '.join(parts)}."


def _rate_words(found: Holding) -> str:
    if found.holds is None:
        return f"at no swept rate (the lowest, {found.fails:g} req/s, misses it)"
    doubt = " (undetermined at this sample size)" if found.verdict == "undetermined" else ""
    after = f", and no more at {found.fails:g}" if found.fails is not None else ", the highest swept"
    return f"up to {found.holds:g} req/s{doubt}{after}"


def _duel(rivals: Sequence[Group], label: str) -> str:
    """The two best at one rate, request by request."""
    ordered = sorted(rivals, key=lambda group: -(group.value(label, "slo_attainment").value or 0.0))
    best, second = ordered[:2]
    rate = best.place.rate_per_s
    where = "On the replayed trace" if rate is None else f"At {rate:g} req/s, on the same requests"
    shares = [notation.percent(group.value(label, "slo_attainment").value or 0.0) for group in (best, second)]
    gap = comparison.paired(best, second, "slo_attainment", best.judged(label)[0].slo)
    if gap is None:
        return (
            f"{where}: {best.system} {shares[0]} %, {second.system} {shares[1]} %, on requests that are not the same."
        )
    low, high = (f"{bound * 100:+.1f}" for bound in gap.interval)
    verdict = {
        "above": f"{best.system} is better",
        "below": f"{second.system} is better",
        "undetermined": "no difference can be told at this sample size",
    }[gap.sign]
    return (
        f"{where}, {best.system} serves {shares[0]} % and {second.system} {shares[1]} % within it: "
        f"{gap.mean * 100:+.1f} points (95 % interval {low} to {high}), so {verdict}."
    )


def _capacities(found: Sequence[Group]) -> Iterator[str]:
    searched = [group for group in found if comparison.is_capacity(group.cells[0])]
    for setting, label in dict.fromkeys((group.place.setting, name) for group in searched for name in group.labels):
        row = [group for group in searched if group.place.setting == setting and label in group.labels]
        parts = []
        for group in row:
            for column in (name for name in group.judged(label)[0].metrics if name.startswith(comparison.CAPACITY)):
                value = group.value(label, column)
                bounds = (
                    f" [{notation.number(value.interval[0])}, {notation.number(value.interval[1])}]"
                    if value.interval
                    else ""
                )
                parts.append((value.value or 0.0, f"{group.system} {notation.quantity(column, value.value)}{bounds}"))
        ordered = [words for _, words in sorted(parts, key=lambda part: -part[0])]
        yield f"{_where(setting, found)}: highest rate that holds SLO {label}, req/s: {', '.join(ordered)}."
