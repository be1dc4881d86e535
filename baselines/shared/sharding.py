"""Alpa's intra-operator pass for one transformer layer: a sharding for every operator, by integer linear programming.

Zheng et al., "Alpa: Automating Inter- and Intra-Operator Parallelism for Distributed Deep Learning" (OSDI 2022), section 4:
each operator picks one parallel algorithm, at the price of its computation and of its own communication, and each edge pays
for converting the layout that one operator leaves to the layout the next one wants. Layouts of a hidden-state tensor on a
mesh of D cards: R replicated, S sharded along its features, P partial sums.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from baselines.shared.extras import require
from thunderserve.spec.model import ModelSpec


class Strategy(NamedTuple):
    """A parallel algorithm of an operator: the layouts it takes and leaves, and the share of the work each card does."""

    name: str
    takes: str
    leaves: str
    share: float


class Operator(NamedTuple):
    """An operator of a layer with the seconds it takes on one card; ``weighted`` operators multiply by a matrix."""

    name: str
    seconds: float
    weighted: bool
    width: float
    """Values it leaves for each value of the hidden state."""


@dataclass(frozen=True)
class Conversions:
    """Seconds of the collectives that convert the layout of hidden states, for all tokens of a request."""

    all_reduce_s: float
    all_gather_s: float
    reduce_scatter_s: float

    def seconds(self, leaves: str, takes: str) -> float:
        """From the layout that an operator leaves to the layout the next one takes."""
        table = {
            ("S", "R"): self.all_gather_s,
            ("P", "R"): self.all_reduce_s,
            ("P", "S"): self.reduce_scatter_s,
        }
        return table.get((leaves, takes), 0.0)


class Choice(NamedTuple):
    """The cheapest strategy of each operator, by name, and the seconds of the layer."""

    strategies: dict[str, str]
    seconds: float


MEGATRON = {"qkv": "column", "attention": "heads", "out": "row", "up": "column", "down": "row"}
"""The sharding that serving engines run: two all-reduces a layer (Shoeybi et al. 2019)."""


def operators(model: ModelSpec, layer_s: float, context: float) -> tuple[Operator, ...]:
    """The operators of one layer that takes ``layer_s`` on one card, divided by their floating-point operations a token."""
    wide, narrow = model.num_heads * model.head_dim, model.num_kv_heads * model.head_dim
    mlp = model.experts_per_token * model.hidden_size * model.intermediate_size
    work = {
        "qkv": model.hidden_size * (wide + 2 * narrow),
        "attention": 2 * wide * context,
        "out": wide * model.hidden_size,
        "up": (model.mlp_matrices - 1) * mlp,
        "down": mlp,
    }
    hidden = model.hidden_size
    width = {
        "qkv": (wide + 2 * narrow) / hidden,
        "attention": wide / hidden,
        "out": 1.0,
        "up": model.experts_per_token * model.intermediate_size / hidden,
        "down": 1.0,
    }
    total = sum(work.values())
    return tuple(
        Operator(name, layer_s * part / total, name != "attention", width[name]) for name, part in work.items()
    )


def strategies(operator: Operator, cards: int) -> tuple[Strategy, ...]:
    """What an operator may do on a mesh of ``cards``."""
    whole = Strategy("replicate", "R", "R", 1.0)
    if not operator.weighted:
        return whole, Strategy("heads", "S", "S", 1 / cards)
    return whole, Strategy("column", "R", "S", 1 / cards), Strategy("row", "S", "P", 1 / cards)


def edge_s(before: Operator | None, leaves: str, takes: str, conversions: Conversions) -> float:
    """Seconds between two operators. Norms and residuals, at both ends and after ``out``, want the tensor replicated."""
    if before is None or before.name == "out":
        return conversions.seconds(leaves, "R") + conversions.seconds("R", takes)
    return before.width * conversions.seconds(leaves, takes)


def cost(layer: Sequence[Operator], picked: Mapping[str, str], cards: int, conversions: Conversions) -> float:
    """Seconds of a layer under given strategies. It begins and ends replicated."""
    seconds, before, leaves = 0.0, None, "R"
    for operator in layer:
        strategy = next(one for one in strategies(operator, cards) if one.name == picked[operator.name])
        seconds += operator.seconds * strategy.share + edge_s(before, leaves, strategy.takes, conversions)
        before, leaves = operator, strategy.leaves
    return seconds + conversions.seconds(leaves, "R")


def best_sharding(layer: Sequence[Operator], cards: int, conversions: Conversions) -> Choice:
    """The cheapest strategies, by the ILP of the paper's section 4.2.

    One binary a strategy of an operator, exactly one chosen; a conversion between neighbours is chosen with both its ends
    (``e`` with ``sum_l e[k,l] = x[k]``, ``sum_k e[k,l] = x[l]``), which makes the quadratic objective linear.
    """
    optimize = require("scipy.optimize", "alpa")
    options = [strategies(operator, cards) for operator in layer]
    nodes = [(o, k) for o, some in enumerate(options) for k in range(len(some))]
    edges = [
        (o, k, m) for o in range(len(layer) - 1) for k in range(len(options[o])) for m in range(len(options[o + 1]))
    ]
    price = np.zeros(len(nodes) + len(edges))
    for column, (o, k) in enumerate(nodes):
        strategy = options[o][k]
        price[column] = layer[o].seconds * strategy.share
        price[column] += edge_s(None, "R", strategy.takes, conversions) if o == 0 else 0.0
        price[column] += conversions.seconds(strategy.leaves, "R") if o == len(layer) - 1 else 0.0
    for column, (o, k, m) in enumerate(edges, start=len(nodes)):
        price[column] = edge_s(layer[o], options[o][k].leaves, options[o + 1][m].takes, conversions)
    scale = max(float(price.max()), 1e-300)  # the solver's tolerances are absolute
    result = optimize.milp(
        price / scale,
        integrality=np.array([1] * len(nodes) + [0] * len(edges)),
        bounds=optimize.Bounds(0, 1),
        constraints=_constraints(optimize, options, nodes, edges),
    )
    chosen = {layer[o].name: options[o][k].name for column, (o, k) in enumerate(nodes) if result.x[column] > 0.5}
    return Choice(chosen, cost(layer, chosen, cards, conversions))


def _constraints(
    optimize: Any,
    options: list[tuple[Strategy, ...]],
    nodes: list[tuple[int, int]],
    edges: list[tuple[int, int, int]],
) -> Any:
    """One strategy an operator; conversions with both their ends."""
    rows: list[dict[int, float]] = []
    right: list[float] = []
    for o in range(len(options)):
        rows.append({column: 1.0 for column, node in enumerate(nodes) if node[0] == o})
        right.append(1.0)
    for column, (o, k) in enumerate(nodes):
        out = {at: 1.0 for at, edge in enumerate(edges, start=len(nodes)) if edge[:2] == (o, k)}
        into = {at: 1.0 for at, edge in enumerate(edges, start=len(nodes)) if (edge[0] + 1, edge[2]) == (o, k)}
        for side in (out, into):
            if side:
                rows.append({column: -1.0, **side})
                right.append(0.0)
    matrix = np.zeros((len(rows), len(nodes) + len(edges)))
    for number, row in enumerate(rows):
        matrix[number, list(row)] = list(row.values())
    return optimize.LinearConstraint(matrix, right, right)
