"""A plan and what to expect of it, for people (tables) and for scripts (JSON)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from harness import notation
from harness.plan.bottleneck import Bottleneck
from harness.plan.case import Case
from harness.plan.judge import LIMITS, Verdict
from harness.plan.make import Made, Search
from harness.sweep.cells import label
from thunderserve.spec.cluster import Cluster
from thunderserve.spec.plan import Phase, Plan, Replica

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

NAMES = {"joint": "all limits", "ttft": "TTFT", "tpot": "TPOT", "e2e": "E2E"}
LOG_WIDTH = 140
"""Of tables in a pipe or a file."""
ORDER = (Phase.PREFILL, Phase.DECODE, Phase.BOTH)


class Row(NamedTuple):
    """Replicas that are alike, as the paper's table of deployments has them."""

    cards: str
    strategy: str
    layers: str
    phase: str
    replicas: tuple[int, ...]
    """Their numbers in the plan."""


def rows(plan: Plan, cluster: Cluster) -> list[Row]:
    """One row a shape; prefill first."""
    found: dict[tuple[str, str, str, Phase], list[int]] = {}
    for number, replica in enumerate(plan.replicas):
        layers = "+".join(str(stage.num_layers) for stage in replica.stages)
        key = (cards_of(replica, cluster), replica.describe(), layers, replica.phase)
        found.setdefault(key, []).append(number)
    ordered = sorted(found, key=lambda key: ORDER.index(key[3]))
    return [Row(*key[:3], key[3].value, tuple(found[key])) for key in ordered]


def cards_of(replica: Replica, cluster: Cluster) -> str:
    """``2xA40``, or ``1xA40 + 2x3090Ti`` where stages differ, in the order of the stages."""
    counts = Counter(cluster.devices[device].gpu for device in replica.devices)
    return " + ".join(f"{count}x{gpu}" for gpu, count in counts.items())


def price_of(plan: Plan, cluster: Cluster) -> tuple[float, float]:
    """USD an hour of the cards in use, and of the whole cluster."""
    used = sum(cluster.gpu(device).price_per_hour for replica in plan.replicas for device in replica.devices)
    return used, cluster.price_per_hour


def print_plan(console: Console, case: Case, made: Made | None, verdict: Verdict, limit: Bottleneck) -> None:
    """Two tables and a few sentences."""
    from rich.markup import escape

    for title, table, caption in (_deployments(verdict), _expected(verdict)):
        console.print(f"[bold]{escape(title)}[/]", highlight=False)
        console.print(table, width=None if console.is_terminal else LOG_WIDTH, crop=console.is_terminal)
        console.print(f"[dim]{escape(caption)}[/]\n", highlight=False)
    for words in sentences(case, made, verdict, limit):
        console.print(escape(words), soft_wrap=not console.is_terminal, highlight=False)


Told = tuple[str, "Table", str]
"""A title, a table and what its columns mean."""


def _frame() -> Table:
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False)


def _deployments(verdict: Verdict) -> Told:
    case, plan = verdict.case, verdict.plan
    caption = (
        "n replicas · pre, dec: % of all requests · busy: % of the time, KV: % at its fullest, of the worst replica"
    )
    title = f"{plan.system} · {case.model.name} · {case.cluster.name} · {case.setting.catalogue} catalogue"
    table = _frame()
    table.add_column("GPUs", overflow="fold")
    for name in ("strategy", "layers", "type"):
        table.add_column(name, no_wrap=True)
    for name in ("n", "pre %", "dec %", "busy", "KV"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows(plan, case.cluster):
        loads = [verdict.replicas[number] for number in row.replicas]
        shares = [sum(getattr(load, name) for load in loads) for name in ("prefilled", "decoded")]
        worst = [max(getattr(load, name) for load in loads) for name in ("busy", "kv")]
        numbers = [f"{value * 100:.0f}" for value in (*shares, *worst)]
        table.add_row(row.cards, row.strategy, row.layers, row.phase, str(len(row.replicas)), *numbers)
    idle = idle_cards(plan, case.cluster)
    if idle:
        table.add_row(idle, "-", "-", "unused", "-", *["-"] * 4)
    return title, table, caption


def idle_cards(plan: Plan, cluster: Cluster) -> str:
    """``2xA40`` that no replica uses; empty if all are in use."""
    used = {device for replica in plan.replicas for device in replica.devices}
    counts = Counter(device.gpu for device in cluster.devices if device.id not in used)
    return " + ".join(f"{count}x{gpu}" for gpu, count in counts.items())


def _expected(verdict: Verdict) -> Told:
    case = verdict.case
    title = f"{workload_of(case)} at {case.rate_per_s:g} req/s, SLO {label(case.setting.slo)}"
    caption = f"simulated on {len(verdict.trace):,} requests that the planner has not seen, 95 % interval"
    table = _frame()
    table.add_column("limit")
    for name in ("in SLO, %", "", "p50", "p90", "p99"):
        table.add_column(name, justify="right")
    for limit in LIMITS:
        share = verdict.attainment(limit)
        low, high = share.interval or (0.0, 1.0)
        spread = [notation.seconds(value) for value in quantiles(verdict, limit)]
        between = f"{notation.percent(low)}–{notation.percent(high)}"
        table.add_row(NAMES[limit], notation.percent(share.value or 0.0), between, *(spread or ["", "", ""]))
    return title, table, caption


def quantiles(verdict: Verdict, limit: str, shares: Sequence[float] = (0.5, 0.9, 0.99)) -> list[float]:
    """Of the latency that ``limit`` is about; empty for the joint one, and where nothing finished."""
    if limit == "joint":
        return []
    values = getattr(verdict.records.latencies, f"{limit}_s")
    known = values[np.isfinite(values)]
    return [float(value) for value in np.quantile(known, shares)] if len(known) else []


def workload_of(case: Case) -> str:
    """What the case calls its workload."""
    return case.workload.workload.name


def sentences(case: Case, made: Made | None, verdict: Verdict, limit: Bottleneck) -> list[str]:
    """Price, planning, links, bottleneck."""
    used, whole = price_of(verdict.plan, case.cluster)
    found = [f"Price: {used:.3f} USD/h of cards in use, {whole:.3f} USD/h for the cluster."]
    if made is not None and made.search is not None:
        found.append(_search_words(made, case.rate_per_s))
    elif made is not None:
        found.append(f"Planned in {notation.seconds(made.planning_s)}.")
    if verdict.links:
        (source, target), load = max(verdict.links.items(), key=lambda item: item[1].busy)
        gbit = 8e-9 * load.bytes_per_s
        found.append(
            f"Busiest link: {source} to {target}, {load.busy:.0%} of the time, {gbit:.2g} of "
            f"{8e-9 * load.capacity_bytes_per_s:.3g} Gbit/s."
        )
    return [*found, f"Bottleneck: {limit.words(verdict.plan)}"]


def _search_words(made: Made, rate_per_s: float) -> str:
    search = made.search
    if search is None:
        return ""
    steps = sum(one.steps for one in search.found.outcomes)
    scored = sum(one.scored for one in search.found.outcomes)
    judged, bound = search.found.judged, search.bound
    return (
        f"Planned in {notation.seconds(made.planning_s)}: {steps} steps, {scored} solutions simulated"
        f"{search.found.load_words}. No plan exceeds "
        f"{bound.attainment * 100:.1f} % and {bound.capacity_per_s:.3g} req/s; this one has {judged.attainment * 100:.1f} % on "
        f"the planner's last sample, and {judged.capacity_per_s:.3g} req/s in closed form{headroom_words(search, rate_per_s)}."
    )


def headroom_words(search: Search, rate_per_s: float) -> str:
    """How far the load could rise, where the search has asked."""
    reach = search.found.headroom
    if not reach:
        return ""
    return f"; simulated, it keeps nine of ten requests within the SLO up to {reach * rate_per_s:.3g} req/s"


def as_json(case: Case, made: Made | None, verdict: Verdict, limit: Bottleneck) -> dict[str, Any]:
    """All of it; the plan itself under ``plan``."""
    used, whole = price_of(verdict.plan, case.cluster)
    expected = {
        name: {"attainment": share.value, "interval": list(share.interval or ())}
        | dict(zip(("p50_s", "p90_s", "p99_s"), quantiles(verdict, name), strict=False))
        for name, share in ((name, verdict.attainment(name)) for name in LIMITS)
    }
    return {
        "setting": case.setting.model_dump(mode="json", exclude_none=True),
        "requests": len(verdict.trace),
        "workload_hash": verdict.trace.digest,
        "price_per_hour": {"in_use": used, "cluster": whole},
        "expected": expected,
        "deployments": [row._asdict() for row in rows(verdict.plan, case.cluster)],
        "replicas": [vars(load) for load in verdict.replicas],
        "links": [{"from": a, "to": b} | vars(load) for (a, b), load in verdict.links.items()],
        "bottleneck": vars(limit) | {"words": limit.words(verdict.plan)},
        "search": _search_json(made),
        "plan": verdict.plan.model_dump(mode="json"),
    }


def _search_json(made: Made | None) -> dict[str, Any] | None:
    if made is None:
        return None
    found: dict[str, Any] = {"planning_s": made.planning_s}
    if made.search is not None:
        search = made.search
        found |= {
            "steps": sum(one.steps for one in search.found.outcomes),
            "scored": sum(one.scored for one in search.found.outcomes),
            "judged": search.found.judged._asdict(),
            "loads": list(search.found.loads),
            "headroom": search.found.headroom,
            "bound": search.bound._asdict(),
        }
    return found
