"""Everything a search needs to price a stage, laid out once by *class* of stage: a breed of cards and a TP degree.

C classes, R sample requests, G batch sizes. Compiled code reads rows of it; nothing is computed twice in a search.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from thunderserve.cost.evaluate import lin
from thunderserve.cost.memory import MemoryRules
from thunderserve.cost.step_table import Floats, Ints, StepTable
from thunderserve.scheduler.inventory import Breed, Inventory
from thunderserve.scheduler.layer_costs import LayerCostBook, LayerCosts, Part
from thunderserve.scheduler.sample import Sample
from thunderserve.scheduler.stage_memory import stage_memory
from thunderserve.spec.model import ModelSpec
from thunderserve.spec.plan import Batching, Phase

DEGREES = (1, 2, 4, 8)
_STEPS_TO_DOUBLE = 2
"""Knots of the batch grid between a batch and its double."""


class StageTable(NamedTuple):
    """Seconds and bytes of each class of stage. ``once`` counts the step itself, ``first`` and ``last`` what they add."""

    batches: Ints  # (G,) sequences of a lane
    prompt_layer_s: Floats  # (C, R) prefill of each sample request
    prompt_once_s: Floats  # (C, R)
    prompt_first_s: Floats  # (C, R)
    prompt_last_s: Floats  # (C, R)
    decode_layer_s: Floats  # (C, G) a decode step at the mean context
    decode_once_s: Floats  # (C, G)
    decode_first_s: Floats  # (C, G)
    decode_last_s: Floats  # (C, G)
    usable_bytes: Floats  # (C,)
    layer_bytes: Floats  # (C,)
    kv_bytes: Floats  # (C,) a token and layer
    fixed_bytes: Floats  # (C, 4) at [first + 2 * last]


class Classes(NamedTuple):
    """The table for one way of batching, and where each class stands in it."""

    row: dict[tuple[Breed, int], int]
    table: StageTable


def batch_grid(most: int) -> Ints:
    """1, 2, 3, 4, 6, 8, 12 ... ``most``."""
    exponents = np.arange(0, _STEPS_TO_DOUBLE * np.log2(max(most, 2)) + 1e-9) / _STEPS_TO_DOUBLE
    return np.unique(np.append(np.minimum(np.round(2**exponents), most), most).astype(np.int64))


def degrees_of(inventory: Inventory, model: ModelSpec) -> dict[Breed, list[int]]:
    """TP degrees by breed: no more cards than a node has of it, and heads that divide evenly, as the engines demand."""
    most: dict[Breed, int] = {}
    for kind in inventory.kinds:
        most[kind.breed] = max(most.get(kind.breed, 0), len(kind.devices))
    return {breed: [tp for tp in DEGREES if tp <= count and model.num_heads % tp == 0] for breed, count in most.items()}


def lay_out(
    inventory: Inventory,
    model: ModelSpec,
    book: LayerCostBook,
    sample: Sample,
    by_phase: dict[Phase, Batching],
    rules: MemoryRules,
) -> dict[Phase, Classes]:
    """Price every class of the cluster for the sample's requests. Phases differ in memory alone: they batch differently."""
    keys = [(breed, tp) for breed, degrees in degrees_of(inventory, model).items() for tp in degrees]
    batches = batch_grid(max(batching.max_sequences for batching in by_phase.values()))
    costs = [book(breed, tp) for breed, tp in keys]
    prefill = [[_prefill(part, one.knots, sample.prompts, head) for part, head in _parts(one)] for one in costs]
    decode = [[_decode(part, one.knots, batches, sample.mean_context) for part, _ in _parts(one)] for one in costs]
    # (4, C, R) and (4, C, G): a layer, a step, the embedding, the LM head
    by_part = [np.ascontiguousarray(np.moveaxis(np.array(one), 1, 0)) for one in (prefill, decode)]
    row = {key: place for place, key in enumerate(keys)}
    found = {}
    for phase, one in by_phase.items():
        columns: list[Any] = [batches, *by_part[0], *by_part[1], *_memory(keys, model, one, rules)]
        found[phase] = Classes(row, StageTable(*columns))
    return found


def _memory(
    keys: list[tuple[Breed, int]], model: ModelSpec, batching: Batching, rules: MemoryRules
) -> tuple[Floats, Floats, Floats, Floats]:
    """(usable, a layer, KV of a token and layer, fixed) bytes of each class."""
    memory = [stage_memory(model, breed.gpu, tp, batching, rules) for breed, tp in keys]
    corners = [(False, False), (True, False), (False, True), (True, True)]
    return (
        np.array([one.usable for one in memory]),
        np.array([one.layer for one in memory]),
        np.array([one.kv for one in memory]),
        np.array([[one.fixed(first=first, last=last) for first, last in corners] for one in memory]),
    )


def _parts(costs: LayerCosts) -> list[tuple[Part, bool]]:
    return [(costs.layer, False), (costs.once, False), (costs.first, False), (costs.last, True)]


def _prefill(part: Part, knots: StepTable, prompts: Floats, head: bool) -> Floats:
    """(R,) what a part adds to a step that is one whole prompt."""
    pairs = prompts * (prompts + 1) / 2
    total: Floats = part.fixed + part.chunk + lin(knots.token_knots, part.token[None], prompts)[0]
    total = total + pairs * lin(knots.chunk_knots, part.pair[None], prompts)[0]
    return np.asarray(total + (lin(knots.logit_knots, part.logit[None], np.ones(1))[0] if head else 0.0))


def _decode(part: Part, knots: StepTable, batches: Ints, context: float) -> Floats:
    """(G,) what a part adds to a decode step of each batch, all sequences at the mean context."""
    flat = part.fixed + lin(knots.token_knots, part.token[None], batches)[0]
    flat = flat + lin(knots.logit_knots, part.logit[None], batches)[0]
    by_context = lin(knots.batch_knots, part.decode.T, batches)  # (L, G)
    attention = lin(
        knots.context_knots, by_context.T, np.asarray(batches * context, dtype=np.float64)
    )  # (G, G): each batch at the keys of each
    total: Floats = flat + attention.diagonal()
    return total
