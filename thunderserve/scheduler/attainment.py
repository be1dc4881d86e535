"""The share of requests that meet their limits on each arc, as a function of load: the D of the orchestration. Compiled.

An *arc* leads from a prefill to a decode replica (or from a colocated one to itself). All closed forms:

* prefill is a queue with one server: Kingman's mean wait with arrivals that the weighted round robin has evened out
  (a replica that gets the share x sees a squared coefficient of variation of x), and an exponential tail;
* links likewise, each with all arcs that cross it;
* decode runs at the batch whose throughput carries the load: its tokens are ``cycle`` apart.

A request is attained if its wait leaves room within the TTFT and E2E limits, and transfer plus cycles fit the TPOT limit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from thunderserve.cost.step_table import Floats, Ints
from thunderserve.serving.compile import jit

FULL = 0.995
"""Utilisation at which the closed forms of queues are cut off."""
LOST = 0.1
"""Overload at which a decode side is taken to serve nobody in time: its queue grows, and holds up prefill in turn."""


class Network(NamedTuple):
    """One solution's replicas and arcs. A arcs, P prefill and Q decode sides, R requests, G batches, L links."""

    rate_per_s: float
    mean_prompt: float
    mean_steps: float
    prompts: Floats  # (R,)
    steps: Floats  # (R,) outputs but the first
    ttft_s: Floats  # (R,)
    tpot_s: Floats  # (R,)
    e2e_s: Floats  # (R,)
    latency_s: Floats  # (P, R)
    busy_s: Floats  # (P,)
    busy_cv2: Floats  # (P,)
    decode_rate: Floats  # (Q, G) tokens a second
    decode_most: Floats  # (Q,) the largest of them
    cycle_s: Floats  # (Q, G)
    source: Ints  # (A,) prefill side
    target: Ints  # (A,) decode side
    shared: Ints  # (A,) 1 if both sides are one colocated replica
    alpha_s: Floats  # (A,)
    wire_s: Floats  # (A,) a token
    codec_s: Floats  # (A,) a token
    links: Ints  # (A, W) rows of links, padded with -1
    num_links: int


class Loads(NamedTuple):
    """What the sides and links bear."""

    wait_s: Floats  # (P,) mean
    rho: Floats  # (P,)
    cycle_s: Floats  # (Q,)
    link_wait_s: Floats  # (L,)
    served: Floats  # (Q,) 1, falling to 0 as a decode side is overloaded


@jit
def loads_of(net: Network, z: Floats) -> Loads:
    """Loads under the shares ``z`` (A,) of all requests."""
    prefills, decodes = len(net.busy_s), len(net.cycle_s)
    x, y = np.zeros(prefills), np.zeros(decodes)
    link_busy, link_square = np.zeros(net.num_links), np.zeros(net.num_links)
    for arc in range(len(z)):
        x[net.source[arc]] += z[arc]
        y[net.target[arc]] += z[arc]
        seconds = net.alpha_s[arc] + net.wire_s[arc] * net.mean_prompt
        for place in range(net.links.shape[1]):
            link = net.links[arc, place]
            if link >= 0:
                link_busy[link] += net.rate_per_s * z[arc] * seconds
                link_square[link] += net.rate_per_s * z[arc] * seconds * seconds
    wait, rho, cycle, served = np.zeros(prefills), np.zeros(prefills), np.zeros(decodes), np.ones(decodes)
    for q in range(decodes):
        needed = net.rate_per_s * y[q] * net.mean_steps
        cycle[q] = _cycle(net.decode_rate[q], net.cycle_s[q], needed)
        served[q] = _in_time(needed / net.decode_most[q])
    for p in range(prefills):
        rho[p] = net.rate_per_s * x[p] * net.busy_s[p]
    for arc in range(len(z)):
        if net.shared[arc] == 1:  # chunks and decodes of a colocated replica slow each other down
            p, q = net.source[arc], net.target[arc]
            decoding = min(net.rate_per_s * y[q] * net.mean_steps / net.decode_most[q], FULL)
            own = min(rho[p], FULL)
            cycle[q] /= 1 - own
            served[q] = min(served[q], _in_time(own + decoding))
            rho[p] = min(own / (1 - decoding), FULL)
    for p in range(prefills):
        used = min(rho[p], FULL)
        wait[p] = 0.5 * (min(x[p], 1.0) + net.busy_cv2[p]) * used / (1 - used) * net.busy_s[p]
    link_wait = np.zeros(net.num_links)
    for link in range(net.num_links):
        link_wait[link] = 0.5 * link_square[link] / (1 - min(link_busy[link], FULL))
    return Loads(wait, rho, cycle, link_wait, served)


@jit
def _in_time(utilisation: float) -> float:
    return min(1.0, max(0.0, 1.0 - (utilisation - 1.0) / LOST))


@jit
def _cycle(rate: Floats, cycle: Floats, needed: float) -> float:
    """Seconds between tokens at the batch that makes ``needed`` tokens a second; the largest batch if none does."""
    if needed <= rate[0]:
        return float(cycle[0])
    for g in range(1, len(rate)):
        if rate[g] >= needed:
            part = (needed - rate[g - 1]) / (rate[g] - rate[g - 1])
            return float(cycle[g - 1] + part * (cycle[g] - cycle[g - 1]))
    return float(cycle[-1])


@jit
def attained(net: Network, loads: Loads, attainment: Floats) -> None:
    """Fill ``attainment`` (A,): the expected share of an arc's requests that meet all their limits."""
    requests = len(net.prompts)
    for arc in range(len(attainment)):
        p, q = net.source[arc], net.target[arc]
        transfer_wait, total = 0.0, 0.0
        for place in range(net.links.shape[1]):
            if net.links[arc, place] >= 0:
                transfer_wait = max(transfer_wait, loads.link_wait_s[net.links[arc, place]])
        rho, wait = min(loads.rho[p], 1.0), loads.wait_s[p]
        decay = rho / wait if wait > 0 else 0.0
        per_token = net.wire_s[arc] + net.codec_s[arc]
        for r in range(requests):
            after_s = 0.0
            if net.steps[r] > 0:
                moved_s = net.alpha_s[arc] + per_token * net.prompts[r] + transfer_wait
                after_s = moved_s + net.steps[r] * loads.cycle_s[q]
                if after_s > net.steps[r] * net.tpot_s[r]:
                    continue
            slack_s = min(net.ttft_s[r], net.e2e_s[r] - after_s) - net.latency_s[p, r]
            if slack_s >= 0:
                total += 1.0 - (rho * np.exp(-decay * slack_s) if decay > 0 else 0.0)
        attainment[arc] = total / requests * loads.served[q]
