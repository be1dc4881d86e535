"""The comparison in a terminal: one table a setting, rivals side by side, repeats put together over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from rich.markup import escape

from harness import comparison, notation
from harness.comparison import Group, Place

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from harness.result import SweepResult

TARGET = 0.9
"""Share of requests that a rate must serve within the SLO to hold."""
MOST_ROWS = 80
"""Of the tables by rate; a larger sweep is told by its capacities alone."""


class Column(NamedTuple):
    """One metric as the table shows it."""

    title: str
    name: str
    better: int
    """1 where more is better, -1 where less is."""
    spread: bool = False
    """Whether the interval is shown."""
    spare: bool = False
    """Whether a narrow terminal does without it."""


COLUMNS = (
    Column("in SLO, %", "slo_attainment", 1, spread=True),
    Column("TTFT", "slo_attainment_ttft", 1),
    Column("TPOT", "slo_attainment_tpot", 1),
    Column("E2E", "slo_attainment_e2e", 1, spare=True),
    Column("tok/s", "throughput_tokens_per_s", 1),
    Column("good/s", "goodput_per_s", 1),
    Column("TTFT p50", "ttft_p50_s", -1),
    Column("p90", "ttft_p90_s", -1, spare=True),
    Column("TPOT p50", "tpot_p50_s", -1),
    Column("$/Mtok", "cost_usd_per_million_tokens", -1),
)


def print_comparison(result: SweepResult, console: Console) -> None:
    """Print the sweep at the SLO its plans were made for, the rates that hold at every SLO, and paired differences."""
    from harness.report.findings import findings

    found = comparison.groups(result)
    label = comparison.planning_label(result)
    by_rate = [group for group in found if not comparison.is_capacity(group.cells[0])]
    if by_rate and len(by_rate) <= MOST_ROWS:
        for setting in dict.fromkeys(group.place.setting for group in by_rate):
            rows = [group for group in by_rate if group.place.setting == setting]
            _print(console, _by_rate(rows, label, wide=True), _by_rate(rows, label, wide=False))
    elif by_rate:
        console.print(f"{len(by_rate)} rows by rate are in summary.csv and report.html; what holds is below.")
    for table in (_holding(result, by_rate), _capacities(result, found), _paired(result, by_rate, label)):
        if table is not None:
            _print(console, table)
    for sentence in findings(result):
        console.print(escape(sentence), soft_wrap=not console.is_terminal, highlight=False)


def _print(console: Console, *candidates: Table) -> None:
    """The first that fits a terminal, or else the last, folded. A log file has lines as long as they need to be."""
    from rich.measure import Measurement

    wide = console.options.update_width(1000)
    widths = [Measurement.get(console, wide, table).maximum for table in candidates]
    room = console.width
    try:
        if not console.is_terminal:
            console.width = max(room, widths[0])
        fitting = (table for table, width in zip(candidates, widths, strict=True) if width <= console.width)
        console.print(next(fitting, candidates[-1]))
    finally:
        console.width = room


def _table(title: str, caption: str) -> Table:
    from rich import box
    from rich.table import Table

    return Table(
        title=escape(title), caption=escape(caption), box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False,
        title_justify="left", caption_justify="left", title_style="bold", caption_style="dim",
    )  # fmt: skip


def _where(place: Place) -> str:
    catalogue = "" if place.catalogue == "datasheet" else f" ({place.catalogue} catalogue)"
    return f"{place.workload} · {place.model} · {place.cluster}{catalogue} · {place.backend}"


def _by_rate(rows: Sequence[Group], label: str, *, wide: bool) -> Table:
    seeds, requests = len(rows[0].cells), rows[0].place.requests
    repeats = f"mean of {seeds} seeds x {requests} requests" if seeds > 1 else f"one seed of {requests} requests"
    caption = f"{repeats} · with 95 % intervals · TTFT, TPOT, E2E: % within that limit alone · * best at that rate"
    table = _table(f"{_where(rows[0].place)} · SLO {label}", caption)
    known = {name for group in rows for judged in group.judged(label) for name in judged.metrics}
    shown = [column for column in COLUMNS if column.name in known and (wide or not column.spare)]
    table.add_column("req/s", justify="right", no_wrap=True, min_width=5)
    table.add_column("system", overflow="fold")
    for column in shown:
        table.add_column(column.title, justify="right", no_wrap=True)
    for rate in dict.fromkeys(group.place.rate_per_s for group in rows):
        rivals = [group for group in rows if group.place.rate_per_s == rate]
        leaders = {column: best(column, rivals, label) for column in shown}
        for index, group in enumerate(rivals):
            cells = [_cell(column, group, label, marked=group in leaders[column]) for column in shown]
            first = "replay" if rate is None else f"{rate:g}"
            table.add_row(
                first if index == 0 else "", escape(group.system), *cells, end_section=index == len(rivals) - 1
            )
    return table


def best(column: Column, rivals: Sequence[Group], label: str) -> list[Group]:
    """The groups whose written value is the best; none where all write the same."""
    values = {group.system: group.value(label, column.name).value for group in rivals}
    known = [value for value in values.values() if value is not None]
    if len(known) < 2:
        return []
    top = notation.quantity(column.name, max(known) if column.better > 0 else min(known))
    ahead = [group for group in rivals if notation.quantity(column.name, values[group.system]) == top]
    return ahead if len(ahead) < len(known) else []


def _cell(column: Column, group: Group, label: str, *, marked: bool) -> str:
    value = group.value(label, column.name)
    text = notation.span(column.name, value) if column.spread else notation.quantity(column.name, value.value)
    return f"[bold]{text}*[/]" if marked else f"{text} "


def _holding(result: SweepResult, rows: Sequence[Group]) -> Table | None:
    """The highest swept rate that holds, system by system; None where no two rates were swept."""
    settings = list(dict.fromkeys(group.place.setting for group in rows))
    if len({group.place.rate_per_s for group in rows}) < 2:
        return None
    caption = (
        f"[lower, upper) req/s: the highest swept rate with {TARGET * 100:g} % of requests within the SLO, and the next one. "
        "? undetermined at this sample size"
    )
    table = _table(f"Highest swept rate that holds {TARGET * 100:g} %", caption)
    names = comparison.systems(result)
    for title in ("setting", "SLO", *map(escape, names)):
        table.add_column(title, justify="left" if title in ("setting", "SLO") else "right")
    for setting in settings:
        labels = comparison.labels(result)
        for index, label in enumerate(labels):
            found = [_bracket([g for g in rows if g.place.setting == setting and g.system == s], label) for s in names]
            last = index == len(labels) - 1
            table.add_row(escape(_where(setting)) if index == 0 else "", label, *found, end_section=last)
    return table


def _bracket(row: Sequence[Group], label: str) -> str:
    if not row:
        return "-"
    found = comparison.holding(row, label, TARGET)
    doubt = "?" if found.verdict == "undetermined" else ""
    if found.holds is None:
        return f"< {found.fails:g}"
    return f"{found.holds:g}{doubt} [{found.holds:g}, {found.fails:g})" if found.fails else f">= {found.holds:g}{doubt}"


def _capacities(result: SweepResult, rows: Sequence[Group]) -> Table | None:
    """The capacities that were searched for, system by system; None where there was no such search."""
    searched = [group for group in rows if comparison.is_capacity(group.cells[0])]
    if not searched:
        return None
    caption = (
        "highest rate seen to hold, req/s [its bracket; over seeds: 95 % interval]. ? undetermined at this sample size"
    )
    table = _table("Capacity", caption)
    names = comparison.systems(result)
    for title in ("setting", "SLO", "", *map(escape, names)):
        table.add_column(title, justify="right" if title in map(escape, names) else "left")
    for setting in dict.fromkeys(group.place.setting for group in searched):
        for label in comparison.labels(result):
            row = {g.system: g for g in searched if g.place.setting == setting and label in g.labels}
            columns = {
                name
                for g in row.values()
                for j in g.judged(label)
                for name in j.metrics
                if name.startswith(comparison.CAPACITY)
            }
            for column in sorted(columns):
                shown = [_searched(row[name], label, column) if name in row else "-" for name in names]
                table.add_row(escape(_where(setting)), label, column, *shown)
    return table


def _searched(group: Group, label: str, column: str) -> str:
    value = group.value(label, column)
    doubt = "?" if "undetermined" in (value.flag or "") else ""
    bounds = "" if value.interval is None else f" [{', '.join(notation.number(end) for end in value.interval)}]"
    return f"{notation.quantity(column, value.value)}{doubt}{escape(bounds)}"


def _paired(result: SweepResult, rows: Sequence[Group], label: str) -> Table | None:
    """Every other system against the first, on the same requests; None for one system or too many rows."""
    names = comparison.systems(result)
    if len(names) < 2 or not rows or len(rows) > MOST_ROWS:
        return None
    reference = names[0]
    caption = "mean of the differences request by request (95 % interval); lower TTFT is better"
    table = _table(f"Against {reference}, on the same requests, SLO {label}", caption)
    for title in ("workload", "req/s", "system", "SLO points", "", "mean TTFT", " "):
        table.add_column(title, justify="right" if title in ("req/s", "SLO points", "mean TTFT") else "left")
    for place in dict.fromkeys(group.place for group in rows):
        rivals = {group.system: group for group in rows if group.place == place}
        if reference not in rivals:
            continue
        for name in names[1:]:
            if name in rivals:
                table.add_row(*_difference_row(rivals[name], rivals[reference], label))
    return table


def _difference_row(group: Group, reference: Group, label: str) -> tuple[str, ...]:
    slo = group.judged(label)[0].slo
    share = comparison.paired(group, reference, "slo_attainment", slo)
    wait = comparison.paired(group, reference, "ttft", slo)
    rate = "replay" if group.place.rate_per_s is None else f"{group.place.rate_per_s:g}"
    shown = ("-", "") if share is None else (
        f"{share.mean * 100:+.1f} ({share.interval[0] * 100:+.1f}, {share.interval[1] * 100:+.1f})",
        comparison.wording(share, better="above"),
    )  # fmt: skip
    waits = ("-", "") if wait is None else (
        f"{_signed(wait.mean)} ({_signed(wait.interval[0])}, {_signed(wait.interval[1])})",
        comparison.wording(wait, better="below"),
    )  # fmt: skip
    return escape(group.place.workload), rate, escape(group.system), *shown, *waits


def _signed(value: float) -> str:
    return ("+" if value >= 0 else "") + notation.seconds(value)
