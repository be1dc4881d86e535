"""The orchestration: the linear program in Z with its capacities, and the X and Y that follow from its answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness import notation
from harness.plan.explain import names
from harness.plan.explain.pages import Grid, Section, grid
from thunderserve.scheduler.attainment import loads_of
from thunderserve.scheduler.estimate import Estimate, network
from thunderserve.scheduler.flows import constraints
from thunderserve.scheduler.lower import Lower

MOST = 16
"""Columns of a matrix that are shown."""


@dataclass(frozen=True)
class Shares:
    """Z by (prefill group, decode group) of a solution, and what follows from it."""

    z: dict[tuple[int, int], float]

    @property
    def x(self) -> dict[int, float]:
        """Share of all requests by prefill group; sums to 1."""
        found: dict[int, float] = {}
        for (prefill, _), share in self.z.items():
            found[prefill] = found.get(prefill, 0.0) + share
        return found

    @property
    def y(self) -> dict[tuple[int, int], float]:
        """Of a prefill group's requests, the share that goes to each decode group; sums to 1 for each prefill group."""
        x = self.x
        return {pair: share / x[pair[0]] for pair, share in self.z.items()}


def shares_of(estimate: Estimate) -> Shares:
    """Z of an estimate."""
    return Shares({(arc.prefill, arc.decode): arc.share for arc in estimate.arcs})


def solved(lower: Lower, estimate: Estimate) -> Section:
    """The program of the plan's solution and its answer."""
    most = lower.estimator.orchestration.most
    words = (
        "Z(i, j) is the share of all requests prefilled by group i and decoded by group j. The program maximises "
        "Σ D(i, j) Z(i, j), where D is the share of an arc's requests that meet their limits at the present loads, with "
        f"Σ Z ≤ 1 and every prefill group, decode group and link at no more than {most:.0%} of what it can carry:"
    )
    after = (
        "D falls with load, so D and its slope are computed anew at the answer, and the program is solved again: "
        f"{lower.estimator.orchestration.rounds} rounds at most. X(i) = Σ_j Z(i, j) and Y(i, j) = Z(i, j) / X(i):"
    )
    shares = shares_of(estimate)
    total = f"Σ Z = Σ X = {sum(shares.x.values()):.4f}, and each row of Y sums to 1."
    worth = (
        f"Expected of these flows: {estimate.attainment * 100:.1f} % within the SLO; all sides together could carry "
        f"{estimate.capacity_per_s:.3g} req/s."
    )
    files = (
        "thunderserve/scheduler/flows.py",
        "thunderserve/scheduler/attainment.py",
        "thunderserve/scheduler/simplex.py",
    )
    blocks = (words, _capacities(lower, estimate), after, _answer(lower, estimate, shares), f"{total} {worth}")
    return Section("Who sends to whom: the linear program, X and Y", files, blocks)


def _capacities(lower: Lower, estimate: Estimate) -> Grid:
    """What each side and link can carry and what it bears."""
    sample, arcs = lower.estimator.sample, list(estimate.arcs)
    net = network(sample, estimate.configurations, arcs)
    a, _ = constraints(net, lower.estimator.orchestration.most)
    z = np.array([arc.share for arc in arcs])
    used = a @ z
    loads = loads_of(net, z)
    sources, targets = sorted({arc.prefill for arc in arcs}), sorted({arc.decode for arc in arcs})
    rows = []
    for place, group in enumerate(sources):
        title = f"{group}: {names.group(lower.inventory, estimate.solution[group])}"
        waits = f"waits {notation.seconds(float(loads.wait_s[place]))} on average"
        rows.append([title, f"{1 / net.busy_s[place]:.3g} prefills/s", _used(used[place]), waits])
    for place, group in enumerate(targets):
        title = f"{group}: {names.group(lower.inventory, estimate.solution[group])}"
        carried = float(net.decode_rate[place].max()) / sample.mean_steps
        apart = f"tokens {notation.seconds(float(loads.cycle_s[place]))} apart"
        rows.append([title, f"{carried:.3g} decodes/s", _used(used[len(sources) + place]), apart])
    first = len(sources) + len(targets)
    for place, link in enumerate(_links(estimate)):
        wait = f"waits {notation.seconds(float(loads.link_wait_s[place]))} on average"
        carried = sample.rate_per_s / float(a[first + place].max())
        rows.append([f"link {link[0]} → {link[1]}", f"{carried:.3g} transfers/s", _used(used[first + place]), wait])
    return grid(("side or link", "can carry", "used, %", "then"), rows)


def _used(share: float) -> str:
    return f"{share * 100:.0f}"


def _links(estimate: Estimate) -> list[tuple[str, str]]:
    """In the order in which ``network`` numbers them."""
    return list(dict.fromkeys(link for arc in estimate.arcs if arc.passage for link in arc.passage.links))


def _answer(lower: Lower, estimate: Estimate, shares: Shares) -> Grid:
    """Z, X and Y side by side: one row an arc."""
    x, y = shares.x, shares.y
    attained = {(arc.prefill, arc.decode): arc.attainment for arc in estimate.arcs}
    rows, told = [], set()
    for pair in sorted(shares.z):
        first = pair[0] not in told
        told.add(pair[0])
        title = f"{pair[0]}: {names.group(lower.inventory, estimate.solution[pair[0]])}" if first else ""
        target = f"{pair[1]}: {names.group(lower.inventory, estimate.solution[pair[1]])}"
        numbers = [f"{y[pair]:.4f}", f"{shares.z[pair]:.4f}", f"{attained[pair]:.3f}"]
        rows.append([title, f"{x[pair[0]]:.4f}" if first else "", target, *numbers])
    return grid(("prefill group i", "X(i)", "decode group j", "Y(i, j)", "Z(i, j)", "D(i, j)"), rows)
