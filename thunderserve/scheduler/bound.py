"""An upper bound on what any plan can attain: phase capacity and flow, relaxed to a linear program (HiGHS).

Every card may split its time between phases, layers and requests at will; weights are read at the best TP degree and batch,
nothing waits, and no step has overheads. What remains: work per request on each kind, and KV over the links between nodes.
Requests whose limits are too tight for any card even alone cannot be attained at all.

On large clusters equal cards of all nodes are one pool, and so are all links from one type to another: what any plan does there
adds up to something that the pools can do as well, so the bound still holds, a little higher, and takes no longer than on small
ones.

The bound holds for steady states: a short trace may end before its queues do.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from thunderserve.cost.step_table import Floats, Ints
from thunderserve.scheduler.deduce import Deducer
from thunderserve.scheduler.highs import Rows, maximise, stacked
from thunderserve.scheduler.layer_costs import LayerCosts
from thunderserve.scheduler.lower import Lower
from thunderserve.scheduler.stage_table import StageTable
from thunderserve.spec.plan import Phase

MOST_KINDS = 24
"""The program has a variable for each two kinds and stratum: more kinds than these are pooled."""


class Bound(NamedTuple):
    """No plan does better than this."""

    attainment: float
    """Share of requests that can meet their limits at the problem's rate."""
    capacity_per_s: float
    """Requests a second that all cards together could work off, limits aside."""


class Work(NamedTuple):
    """Least card-seconds of each request (R) on each pool (P), and whether its limits can be met at all."""

    prefill_s: Floats  # (P, R)
    decode_s: Floats  # (P, R)
    attainable: Floats  # (R,) 1 or 0


class Wire(NamedTuple):
    """Links that share what they carry, and the pools (P) that only these lead from and to."""

    sources: list[int]
    targets: list[int]
    bytes_per_s: float


class Pools(NamedTuple):
    """Cards that the program does not tell apart."""

    kinds: list[list[int]]
    """Of each pool: kinds of one breed."""
    cards: Floats
    """(P,) how many."""
    wires: list[Wire]


def upper_bound(lower: Lower, most_kinds: int = MOST_KINDS) -> Bound:
    """The bound for the lower level's problem. Clusters of more than ``most_kinds`` kinds are pooled."""
    pools = each_kind(lower) if len(lower.inventory.kinds) <= most_kinds else each_breed(lower)
    work, rate_per_s = least_work(lower, pools), lower.estimator.sample.rate_per_s
    strata = len(work.attainable)
    carried, served = _carried(lower, work, pools), _served(pools, strata)
    parts = np.ones(served.column.max() + 1) / strata
    attainment = maximise(parts, stacked(carried, served._replace(right=work.attainable)))
    # One more variable, the multiple of the rate at which all strata are served alike.
    multiple = len(parts)
    equal = Rows(
        np.append(served.row, np.arange(strata)),
        np.append(served.column, np.full(strata, multiple)),
        np.append(served.value, -np.ones(strata)),
        np.zeros(strata),
    )
    goal = np.append(np.zeros(multiple), 1.0)
    return Bound(attainment, rate_per_s * maximise(goal, carried, equal))


def each_kind(lower: Lower) -> Pools:
    """Every kind alone, and the path between every two nodes."""
    inventory = lower.inventory
    by_node = _by_node(lower)
    wires = [
        Wire(source, target, inventory.path(source[0], target[0]).bytes_per_s)
        for x, source in by_node.items() for y, target in by_node.items() if x != y
    ]  # fmt: skip
    return Pools([[kind] for kind in range(len(inventory.kinds))], np.array(inventory.counts, np.float64), wires)


def each_breed(lower: Lower) -> Pools:
    """Equal cards of all nodes together, and all paths between types that have no node in common: others need no link."""
    inventory, by_node = lower.inventory, _by_node(lower)
    kinds: dict[int, list[int]] = {}
    for kind, breed in enumerate(inventory.breed_of):
        kinds.setdefault(breed, []).append(kind)
    nodes = [{inventory.kinds[kind].node for kind in same} for same in kinds.values()]
    wires = [
        Wire([a], [b], sum(inventory.path(by_node[x][0], by_node[y][0]).bytes_per_s for x in nodes[a] for y in nodes[b]))
        for a in range(len(nodes)) for b in range(len(nodes)) if not nodes[a] & nodes[b]
    ]  # fmt: skip
    cards = np.array([sum(inventory.counts[kind] for kind in same) for same in kinds.values()], np.float64)
    return Pools(list(kinds.values()), cards, wires)


def _by_node(lower: Lower) -> dict[str, list[int]]:
    """Kinds of each node."""
    found: dict[str, list[int]] = {}
    for place, kind in enumerate(lower.inventory.kinds):
        found.setdefault(kind.node, []).append(place)
    return found


def least_work(lower: Lower, pools: Pools) -> Work:
    """See ``Work``."""
    deduce, sample = lower.estimator.deduce, lower.estimator.sample
    layers = deduce.model.num_layers
    most = _largest_lane(deduce)
    by_breed = []
    prefill, decode = deduce.classes(Phase.PREFILL), deduce.classes(Phase.DECODE)
    fastest_prefill = layers * prefill.table.prompt_layer_s.min(axis=0)
    fastest_step = layers * float(decode.table.decode_layer_s[:, 0].min())
    breeds = dict.fromkeys(kind.breed for kind in deduce.inventory.kinds)
    for breed in breeds:
        rows = [(tp, row) for (one, tp), row in prefill.row.items() if one == breed]
        books = [(tp, deduce.book(breed, tp)) for tp, _ in rows]
        prompts = np.min([tp * layers * _token_work(one, sample.prompts) for tp, one in books], axis=0)
        steps = min(tp * layers * _step_work(decode.table, row, most) for tp, row in rows)
        by_breed.append((prompts, steps * sample.steps))
    number = {breed: place for place, breed in enumerate(breeds)}
    places = [number[deduce.inventory.kinds[same[0]].breed] for same in pools.kinds]
    limits = sample.strata_limits
    able = (fastest_prefill <= limits.ttft_s) & (fastest_step <= limits.tpot_s)
    able &= fastest_prefill + sample.steps * fastest_step <= limits.e2e_s
    return Work(
        np.array([by_breed[place][0] for place in places]),
        np.array([by_breed[place][1] for place in places]),
        able.astype(np.float64),
    )


def _largest_lane(deduce: Deducer) -> float:
    """Sequences of one lane, at most: S lanes share a stage's memory, so a lane cannot fill more than an S-th of all layers'."""
    table = deduce.classes(Phase.DECODE).table
    tokens = table.usable_bytes / (table.kv_bytes * deduce.model.num_layers)
    return min(float(tokens.max()) / deduce.sample.mean_context, float(table.batches[-1]))


def _token_work(costs: LayerCosts, prompts: Floats) -> Floats:
    """(R,) seconds of one layer for a prompt packed with others as well as can be."""
    knots, part = costs.knots, costs.layer
    per_token = float((part.token / knots.token_knots).min())
    return prompts * per_token + prompts * (prompts + 1) / 2 * float(part.pair.min())


def _step_work(table: StageTable, row: int, most: float) -> float:
    """Seconds of one layer for one token of one sequence, at the best batch up to ``most``."""
    sizes = np.append(table.batches[table.batches < most], most).astype(np.float64)
    seconds = np.interp(sizes, table.batches, table.decode_layer_s[row])
    return float((seconds / sizes).min())


def _carried(lower: Lower, work: Work, pools: Pools) -> Rows:
    """What cards and links carry of ``z[a, b, r]``: the part of stratum r prefilled on pool a and decoded on pool b."""
    sample, cards = lower.estimator.sample, pools.cards
    a, b, r = _axes(pools, len(work.attainable))
    index, weight = np.arange(len(a)), sample.rate_per_s / len(work.attainable)
    prefill_s, decode_s = weight * work.prefill_s[a, r] / cards[a], weight * work.decode_s[b, r] / cards[b]
    working = Rows(np.append(a, b), np.append(index, index), np.append(prefill_s, decode_s), np.ones(len(cards)))
    kv_bytes, links = _kv_bytes_per_token(lower), []
    for source, target, bytes_per_s in pools.wires:
        on = np.flatnonzero(np.isin(a, source) & np.isin(b, target))
        seconds = weight * sample.prompts[r[on]] * kv_bytes / bytes_per_s
        links.append(Rows(np.zeros(len(on), np.int64), on, seconds, np.ones(1)))
    return stacked(working, *links)


def _served(pools: Pools, strata: int) -> Rows:
    """The part of each stratum that is served, at most all of it."""
    _, _, r = _axes(pools, strata)
    return Rows(r, np.arange(len(r)), np.ones(len(r)), np.ones(strata))


def _axes(pools: Pools, strata: int) -> tuple[Ints, Ints, Ints]:
    a, b, r = (axis.ravel() for axis in np.indices((len(pools.kinds), len(pools.kinds), strata)))
    return a, b, r


def _kv_bytes_per_token(lower: Lower) -> float:
    """Of all layers, with the tightest codec allowed."""
    bits = min(codec.bits_per_value for codec in lower.estimator.passages.codecs)
    return lower.estimator.deduce.model.kv_bytes_per_token(bits)
