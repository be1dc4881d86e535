"""The beginning of a search: cards and links as it sees them, the clusters it finds, the first phases."""

from __future__ import annotations

import numpy as np

from harness import notation
from harness.plan.explain import names
from harness.plan.explain.pages import Grid, Section, grid
from harness.plan.make import Search
from thunderserve.scheduler.headroom import LIFTED, WANTED
from thunderserve.scheduler.lower import Lower
from thunderserve.scheduler.search import start
from thunderserve.scheduler.solution import Group, Solution
from thunderserve.scheduler.start import clustered
from thunderserve.scheduler.tabu import DEFAULT_PARAMETERS
from thunderserve.spec.plan import Phase

MOST = 12
"""Kinds whose bandwidth matrix is shown."""


def first_solution(search: Search, lower: Lower, seed: int) -> Solution:
    """Where the search began: the problem had this ``seed``."""
    rng = np.random.default_rng((search.system.seed, seed))
    return start(lower, search.system.phases, search.system.init, rng)


def cards_and_links(lower: Lower) -> Section:
    """Kinds of cards and the bandwidth between them."""
    inventory = lower.inventory
    kinds = grid(
        ("kind", "node", "cards", "type", "memory, GiB", "GB/s", "TFLOP/s", "USD/h each"),
        [
            (
                str(place), kind.node, str(len(kind.devices)), kind.gpu.name, f"{kind.gpu.memory_bytes / 2**30:.0f}",
                f"{kind.gpu.memory_bytes_per_s / 1e9:.0f}", f"{kind.gpu.flops / 1e12:.1f}", f"{kind.gpu.price_per_hour:.3f}",
            )
            for place, kind in enumerate(inventory.kinds)
        ],
    )  # fmt: skip
    words = (
        "Equal cards of one node are one *kind*: no plan needs to tell them apart, and a solution only counts them. Between two "
        "cards one message gets this much, in Gbit/s from the row to the column (on the diagonal: inside the node):"
    )
    return Section(
        "Cards and links",
        ("thunderserve/scheduler/inventory.py", "thunderserve/cost/network.py"),
        (kinds, words, _matrix(lower)),
    )


def _matrix(lower: Lower) -> Grid:
    inventory, count = lower.inventory, min(len(lower.inventory.kinds), MOST)
    titles = [kind.node for kind in inventory.kinds[:count]]
    rows = [
        [titles[a], *(f"{8e-9 * inventory.path(a, b).bytes_per_s:.3g}" for b in range(count))] for a in range(count)
    ]
    return grid(["from \\ to", *titles], rows)


def clusters(lower: Lower) -> Section:
    """What hierarchical clustering finds."""
    inventory = lower.inventory
    found = clustered(inventory, lower.capable, tuple(enumerate(inventory.counts)))
    rows = []
    for number, cards in enumerate(sorted(found, key=lambda one: -lower.leaning(one))):
        prefill, decode = (lower.estimator.deduce(Group(phase, cards)) for phase in (Phase.PREFILL, Phase.DECODE))
        shape = "-" if prefill is None else prefill.describe()
        rate = "-" if prefill is None else notation.number(1 / prefill.busy_s)
        tokens = "-" if decode is None else notation.number(float(decode.rate_per_s.max()))
        lean = f"{1e3 * lower.leaning(cards):.3g}"
        rows.append([str(number), names.cards(inventory, cards), shape, rate, tokens, lean])
    words = (
        "Average-linkage clustering on seconds a byte, cut from the root for as long as both halves hold the model; clusters of "
        "many equal cards are then carved into the smallest groups that hold it. How a group leans is its prefill capacity over "
        "its decode capacity:"
    )
    columns = ("group", "cards", "prefill as", "prefills/s", "decode tokens/s", "leaning, ×10⁻³")
    files = ("thunderserve/scheduler/start.py", "thunderserve/scheduler/solution.py")
    return Section("Where the search starts: groups", files, (words, grid(columns, rows)))


def phases(search: Search, lower: Lower, first: Solution) -> Section:
    """The first phases and what they are worth."""
    estimate, score = lower.needed(first), lower.score(first)
    words = (
        "Groups in the order of their leaning, prefill above and decode below one cut; every cut is estimated in closed form and "
        f"the best is taken: {names.solution(lower.inventory, first)}."
        if search.system.init == "cluster" and search.system.phase_split == "on"
        else f"It starts from {names.solution(lower.inventory, first)}."
    )
    worth = (
        f"Expected in closed form {estimate.attainment * 100:.1f} % within the SLO and {estimate.capacity_per_s:.3g} req/s of "
        f"capacity; simulated on the search's {len(lower.estimator.sample.trace)} requests {score.attainment * 100:.1f} %."
    )
    files = ("thunderserve/scheduler/start.py", "thunderserve/scheduler/estimate.py")
    return Section("The first phases", files, (words, worth))


def others(lower: Lower, found: list[Solution]) -> Section:
    """The other starts and what the best of them is worth."""
    best = max(found, key=lower.score)
    score = lower.score(best)
    words = (
        "The same groups under other cuts, and with decode groups joined into deeper pipelines, are starts as well: the "
        f"{len(found)} best by estimate, of a beam search through the joins. Of these the best in simulation is "
        f"{names.solution(lower.inventory, best)}: "
        f"{score.attainment * 100:.1f} %. The search walks from the {DEFAULT_PARAMETERS.walks} best starts in turn, "
        f"{DEFAULT_PARAMETERS.rung} steps each; then the better half goes on, until one is left."
    )
    files = ("thunderserve/scheduler/pipelines.py", "thunderserve/scheduler/tabu.py")
    return Section("Other starts", files, (words,))


def load(search: Search, lower: Lower, lifted: Lower, starts: list[Solution]) -> Section:
    """Why the search runs at a higher load than the one asked for, and at which."""
    multiple = search.found.loads[-1]
    longer = lifted.race.long or lifted.race.short
    at_asked = max(lower.simulation.attainment(lower.needed(one)) for one in starts)
    at_lifted = max(longer.attainment(lower.needed(one)) for one in starts)
    words = (
        f"At {lower.estimator.sample.rate_per_s:g} req/s the best start already attains {at_asked * 100:.1f} %, and most "
        "solutions near it do: there is nothing to search for. So the search runs where plans differ, at the load to which "
        f"the best start keeps {LIFTED * 100:.0f} %: {multiple:.3g} times as much, "
        f"{lifted.estimator.sample.rate_per_s:.3g} req/s, where it attains {at_lifted * 100:.1f} % of the longer sample. What "
        "is found there is judged at the load that was asked for; of those that cannot be told apart there, the one that "
        f"keeps {WANTED * 100:.0f} % to the highest rate is taken."
    )
    files = ("thunderserve/scheduler/headroom.py", "thunderserve/scheduler/select.py")
    return Section("The load of the search", files, (words,))
