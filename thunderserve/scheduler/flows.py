"""Who sends to whom: the two-stage transportation problem as one linear program in Z (the paper, second-hand), compiled.

Z is the share of all requests on each arc; X (by prefill side) and Y (by arc of a side) follow from it. D depends on the
load, so a few rounds follow one another: D and its slope at the present loads, the linear program, and the best step
towards its answer (Frank and Wolfe's method). Shares that no capacity carries stay unserved, at score zero.
"""

from __future__ import annotations

import numpy as np

from thunderserve.cost.step_table import Floats
from thunderserve.scheduler.attainment import Loads, Network, attained, loads_of
from thunderserve.scheduler.simplex import maximise
from thunderserve.serving.compile import jit

STEPS = np.array([1.0, 0.6, 0.3, 0.15, 0.05])
"""Parts of the way to the program's answer that are tried."""
PROBE = 0.02
"""Share of requests by which a side's load is raised to see the slope of D."""


@jit
def constraints(net: Network, most: float) -> tuple[Floats, Floats]:
    """``a`` (M, A) and ``b`` (M,) of ``a z <= b``: sides and links at no more than ``most`` utilisation, all shares at most 1."""
    prefills, decodes, arcs = len(net.busy_s), len(net.cycle_s), len(net.source)
    rows = prefills + decodes + net.num_links + 1
    a, b = np.zeros((rows, arcs)), np.full(rows, most)
    for arc in range(arcs):
        p, q = net.source[arc], net.target[arc]
        prefill = net.rate_per_s * net.busy_s[p]
        decode = net.rate_per_s * net.mean_steps / net.decode_most[q]
        both = prefill + decode if net.shared[arc] == 1 else 0.0
        a[p, arc] = both or prefill
        a[prefills + q, arc] = both or decode
        seconds = net.alpha_s[arc] + net.wire_s[arc] * net.mean_prompt
        for place in range(net.links.shape[1]):
            link = net.links[arc, place]
            if link >= 0:
                a[prefills + decodes + link, arc] += net.rate_per_s * seconds
        a[rows - 1, arc] = 1.0
    b[rows - 1] = 1.0
    return a, b


@jit
def worth(net: Network, z: Floats, attainment: Floats) -> float:
    """The attainment expected of the shares ``z``; fills the attainment by arc."""
    attained(net, loads_of(net, z), attainment)
    total = 0.0
    for arc in range(len(z)):
        total += z[arc] * attainment[arc]
    return total


@jit
def orchestrate(net: Network, rounds: int, most: float) -> tuple[Floats, Floats, float, float]:
    """(Z, D, attainment, capacity in multiples of the rate) after ``rounds`` rounds. Z sums to at most 1, the attainment is
    that of Z scaled to 1."""
    arcs = len(net.source)
    a, b = constraints(net, most)
    goal, goal_d, trial, trial_d = np.empty(arcs), np.empty(arcs), np.empty(arcs), np.empty(arcs)
    # The rate may rise until the first constraint binds; all but the last, which holds the shares to 1.
    unbounded = b.copy()
    unbounded[-1] = 1e9
    z, multiple = maximise(np.ones(arcs), a, unbounded)
    _scale(z, min(1.0 / max(multiple, 1e-12), 1.0))  # no side bears more than the same part of what it could
    d = np.empty(arcs)
    best = worth(net, z, d)
    _proportional(a, b, trial)
    value = worth(net, trial, trial_d)
    if value > best:
        best = value
        _copy(trial, z)
        _copy(trial_d, d)
    for _ in range(rounds):
        goal, _value = maximise(_slopes(net, z, d), a, b)
        reached = _best_step(net, z, goal, best, trial, trial_d, goal_d)
        if reached <= best:
            break
        best = reached
        _copy(trial_d, z)
        _copy(goal_d, d)
    # Nobody is turned away: what no capacity carries is served late, in the same proportions.
    _copy(z, trial)
    _scale(trial, 1.0 / _sum(trial))
    return z, d, min(best, worth(net, trial, trial_d)), multiple


@jit
def _best_step(
    net: Network, z: Floats, goal: Floats, best: float, trial: Floats, chosen: Floats, chosen_d: Floats
) -> float:
    """Try parts of the way from ``z`` to ``goal``; fill in the best shares and their D if they beat ``best``."""
    d = np.empty(len(z))
    for step in STEPS:
        for arc in range(len(z)):
            trial[arc] = z[arc] + step * (goal[arc] - z[arc])
        value = worth(net, trial, d)
        if value > best + 1e-9:
            best = value
            _copy(trial, chosen)
            _copy(d, chosen_d)
    return best


@jit
def _copy(source: Floats, target: Floats) -> None:
    for place in range(len(source)):
        target[place] = source[place]


@jit
def _scale(values: Floats, factor: float) -> None:
    for place in range(len(values)):
        values[place] *= factor


@jit
def _sum(values: Floats) -> float:
    total = 0.0
    for value in values:
        total += value
    return total


@jit
def _proportional(a: Floats, b: Floats, z: Floats) -> None:
    """Fill ``z`` in proportion to what each arc could carry alone, shrunk until all constraints but the last hold."""
    for arc in range(len(z)):
        z[arc] = 1.0
        for row in range(a.shape[0] - 1):
            z[arc] /= a[row, arc] if a[row, arc] > 0 else 1.0
    _scale(z, 1.0 / _sum(z))
    heaviest = 1.0
    for row in range(a.shape[0] - 1):
        used = 0.0
        for arc in range(len(z)):
            used += a[row, arc] * z[arc]
        heaviest = max(heaviest, used / b[row])
    _scale(z, 1.0 / heaviest)


@jit
def _slopes(net: Network, z: Floats, d: Floats) -> Floats:
    """(A,) what one more share on an arc brings: its own D, less what it takes from the others on its sides."""
    arcs, prefills, decodes = len(z), len(net.busy_s), len(net.cycle_s)
    loss_p, loss_q = np.zeros(prefills), np.zeros(decodes)
    raised, count_p, count_q = np.zeros(arcs), np.zeros(prefills), np.zeros(decodes)
    for arc in range(arcs):
        count_p[net.source[arc]] += 1
        count_q[net.target[arc]] += 1
    more, slopes = np.empty(arcs), np.empty(arcs)
    for arc in range(arcs):
        more[arc] = z[arc] + PROBE / count_p[net.source[arc]]
    calm, heavy = loads_of(net, z), loads_of(net, more)
    attained(net, Loads(heavy.wait_s, heavy.rho, calm.cycle_s, heavy.link_wait_s, calm.served), raised)
    for arc in range(arcs):
        loss_p[net.source[arc]] += z[arc] * (d[arc] - raised[arc]) / PROBE
        more[arc] = z[arc] + PROBE / count_q[net.target[arc]]
    heavy = loads_of(net, more)
    attained(net, Loads(calm.wait_s, calm.rho, heavy.cycle_s, calm.link_wait_s, heavy.served), raised)
    for arc in range(arcs):
        loss_q[net.target[arc]] += z[arc] * (d[arc] - raised[arc]) / PROBE
    for arc in range(arcs):
        slopes[arc] = d[arc] - loss_p[net.source[arc]] - loss_q[net.target[arc]]
    return slopes
