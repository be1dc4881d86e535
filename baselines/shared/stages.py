"""Pipeline stages priced in closed form: seconds and memory of any tensor-parallel group with any number of layers.

Planners that search over layouts cannot ask for a step table each time. All layers of a model are alike, so the time of a
stage is a line in its layers; two tables (one layer and two) of a kind of group give it, from whatever cost source the
problem has. The published planners bring cost models of their own; here all use the problem's, because the harness compares
planners and not cost models.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np

from baselines.shared.load import Load
from baselines.shared.memo import Kind, Wire, kind, wires
from thunderserve.cost.evaluate import decode_s, lin, prefill_s
from thunderserve.cost.memory import CardMemory, replica_memory
from thunderserve.cost.network import Route, hop
from thunderserve.cost.source import CostSource
from thunderserve.cost.step_table import StepTable
from thunderserve.spec.cluster import Cluster
from thunderserve.spec.model import ModelSpec
from thunderserve.spec.plan import Batching, Phase, Replica, Stage

K = TypeVar("K")
V = TypeVar("V")

Devices = tuple[int, ...]
Layout = tuple[tuple[Devices, int], ...]
"""Stages in order: cards and layers."""


class Line(NamedTuple):
    """``base + layers * layer`` seconds, and ``head`` more on a last stage."""

    base_s: float
    layer_s: float
    head_s: float

    def seconds(self, layers: float, *, last: bool) -> float:
        """Busy seconds of a stage with this many layers."""
        return self.base_s + layers * self.layer_s + (self.head_s if last else 0.0)


class Room(NamedTuple):
    """Bytes of a card as a line in its layers: ``left + layers * by_layer`` for KV (``by_layer`` is negative)."""

    left_bytes: float
    by_layer_bytes: float
    kv_bytes_per_token_layer: float


class Ends(NamedTuple):
    """Whether a stage holds the input embedding, and whether it holds the LM head."""

    first: bool
    last: bool


class StageBook:
    """Prices of stages for one typical request. Equal kinds of groups are priced once."""

    def __init__(self, cluster: Cluster, model: ModelSpec, costs: CostSource, load: Load, batching: Batching) -> None:
        self.cluster, self.model, self.costs, self.load, self.batching = cluster, model, costs, load, batching
        self._probes: dict[Kind, tuple[StepTable, StepTable]] = {}
        self._lines: dict[tuple[Kind, int], Line] = {}
        self._kinds: dict[Devices, Kind] = {}
        self._paths: dict[tuple[Wire, ...], Route] = {}
        self._wires: dict[tuple[Devices, Devices], tuple[Wire, ...]] = {}
        self._rooms: dict[tuple[str, int], dict[Ends, Room]] = {}

    def prefill(self, devices: Devices) -> Line:
        """One typical prompt, alone in its batch."""
        return self._line(devices, 0)

    def decode(self, devices: Devices, batch: int) -> Line:
        """One decode step of ``batch`` typical sequences."""
        return self._line(devices, batch)

    def request_s(self, devices: Devices, layers: int, batch: int, *, last: bool) -> float:
        """Busy seconds of a stage for one typical request, when ``batch`` requests decode together."""
        decoding = self.load.decode_steps / batch * self.decode(devices, batch).seconds(layers, last=last)
        return self.prefill(devices).seconds(layers, last=last) + decoding

    def hop_s(self, sender: Devices, receiver: Devices, tokens: float) -> float:
        """Sending the activations of ``tokens`` tokens from one stage to the next."""
        between = remember(self._wires, (sender, receiver), lambda: wires(self.cluster, sender, receiver))
        ends = (Stage(devices=devices, num_layers=1) for devices in (sender, receiver))
        path = remember(self._paths, between, lambda: hop(self.cluster, self.model, *ends))
        return path.seconds(tokens * self.model.hidden_size * self.model.dtype_bytes)

    def request_hop_s(self, sender: Devices, receiver: Devices, batch: int) -> float:
        """All hops of one typical request over a boundary, when ``batch`` requests decode together."""
        decoding = self.load.decode_steps / batch * self.hop_s(sender, receiver, batch)
        return self.hop_s(sender, receiver, self.load.prompt_tokens) + decoding

    def kv_tokens(self, devices: Devices, layers: int, ends: Ends) -> float:
        """Tokens of KV that the group holds beside ``layers`` layers; negative when these do not fit."""
        room = self._room(devices)[ends]
        return (room.left_bytes + room.by_layer_bytes * layers) / (room.kv_bytes_per_token_layer * layers)

    def layer_room(self, devices: Devices, ends: Ends, context: float, weight_share: float = 1.0) -> float:
        """Layers, whole or in part, that leave room for ``context`` tokens of KV; negative if none do.

        ``weight_share`` bounds the part of what is left for layers and KV that their weights may take.
        """
        room = self._room(devices)[ends]
        most = room.left_bytes / (context * room.kv_bytes_per_token_layer - room.by_layer_bytes)
        return min(most, weight_share * room.left_bytes / -room.by_layer_bytes)

    def max_layers(self, devices: Devices, ends: Ends, context: float, weight_share: float = 1.0) -> int:
        """Whole layers that ``layer_room`` leaves room for, at most those of the model."""
        return max(min(int(self.layer_room(devices, ends, context, weight_share)), self.model.num_layers), 0)

    def _line(self, devices: Devices, batch: int) -> Line:
        name = remember(self._kinds, devices, lambda: kind(self.cluster, devices))
        return remember(self._lines, (name, batch), lambda: self._priced(name, devices, batch))

    def _priced(self, name: Kind, devices: Devices, batch: int) -> Line:
        one, two = remember(self._probes, name, lambda: (self._table(devices, 1), self._table(devices, 2)))
        head = float(lin(one.logit_knots, one.logit_s, np.array([max(batch, 1)]))[0, 0])
        first, second = (self._busy_s(table, batch) - head for table in (one, two))
        return Line(max(2 * first - second, 0.0), second - first, head)

    def _table(self, devices: Devices, layers: int) -> StepTable:
        whole = Replica(stages=(Stage(devices=devices, num_layers=layers),), phase=Phase.BOTH, batching=self.batching)
        return self.costs.step_table(
            self.model,
            whole,
            self.cluster,
            max_tokens=max(self.batching.max_batched_tokens, round(self.load.prompt_tokens)),
            max_sequences=self.batching.max_sequences,
            max_context=self.load.longest,
        )

    def _busy_s(self, table: StepTable, batch: int) -> float:
        if batch == 0:
            return float(prefill_s(table, np.array([round(self.load.prompt_tokens)]))[0, 0])
        return float(decode_s(table, batch, np.array([batch * self.load.context]))[0, 0])

    def _room(self, devices: Devices) -> dict[Ends, Room]:
        smallest = min(devices, key=lambda device: self.cluster.gpu(device).memory_bytes)
        key = (self.cluster.devices[smallest].gpu, len(devices))
        return remember(self._rooms, key, lambda: self._measured(smallest, len(devices)))

    def _measured(self, device: int, tp: int) -> dict[Ends, Room]:
        rooms = {}
        for ends, stages, place in (
            (Ends(first=True, last=True), 1, 0),
            (Ends(first=True, last=False), 3, 0),
            (Ends(first=False, last=False), 3, 1),
            (Ends(first=False, last=True), 3, 2),
        ):
            one, two = (self._card(device, tp, stages, place, layers) for layers in (1, 2))
            by_layer = two.kv_bytes - one.kv_bytes
            rooms[ends] = Room(one.kv_bytes - by_layer, by_layer, one.kv_bytes_per_token)
        return rooms

    def _card(self, device: int, tp: int, stages: int, place: int, layers: int) -> CardMemory:
        """A card of one stage of a made-up pipeline: memory depends on the place of a stage, not on the links."""
        stage = Stage(devices=(device,) * tp, num_layers=layers)
        pipeline = Replica(stages=(stage,) * stages, phase=Phase.BOTH, batching=self.batching)
        return replica_memory(self.model, pipeline, self.cluster)[place * tp]


def remember(memory: dict[K, V], key: K, make: Callable[[], V]) -> V:
    """``memory[key]``, made the first time."""
    if key not in memory:
        memory[key] = make()
    return memory[key]


def ends_of(stages: int) -> list[Ends]:
    """The ends of each stage of a pipeline."""
    return [Ends(index == 0, index == stages - 1) for index in range(stages)]


def latency_s(book: StageBook, layout: Layout, batch: int = 1) -> float:
    """Seconds of one typical request through an idle pipeline, decoding in a batch of ``batch``."""
    load, last = book.load, len(layout) - 1
    prefill = sum(book.prefill(d).seconds(n, last=i == last) for i, (d, n) in enumerate(layout))
    decode = sum(book.decode(d, batch).seconds(n, last=i == last) for i, (d, n) in enumerate(layout))
    for (sender, _), (receiver, _) in pairwise(layout):
        prefill += book.hop_s(sender, receiver, load.prompt_tokens)
        decode += book.hop_s(sender, receiver, batch)
    return prefill + load.decode_steps * decode


def prefill_rate_per_s(book: StageBook, layout: Layout) -> float:
    """Typical prompts a second, one a batch: the slowest stage decides."""
    last = len(layout) - 1
    return 1 / max(book.prefill(d).seconds(n, last=i == last) for i, (d, n) in enumerate(layout))


def sequences(book: StageBook, layout: Layout) -> int:
    """Typical sequences that the memory of a pipeline holds at once, at most what its batches take; 0 if none."""
    ends = ends_of(len(layout))
    tokens = min(book.kv_tokens(d, n, end) for (d, n), end in zip(layout, ends, strict=True))
    whole = book.load.prompt_tokens + book.load.output_tokens
    return max(min(int(tokens / whole), book.batching.max_sequences * len(layout)), 0)


def decode_rate_per_s(book: StageBook, layout: Layout) -> float:
    """Typical requests a second that decode on a pipeline: as many as fit, spread over one batch a stage; 0 if none fit."""
    count = sequences(book, layout)
    if count == 0:
        return 0.0
    lanes = min(len(layout), count)
    batch = max(count // lanes, 1)
    last = len(layout) - 1
    slowest = max(book.decode(d, batch).seconds(n, last=i == last) for i, (d, n) in enumerate(layout))
    around = sum(book.decode(d, batch).seconds(n, last=i == last) for i, (d, n) in enumerate(layout))
    around += sum(book.hop_s(a, b, batch) for (a, _), (b, _) in pairwise(layout))
    steps_per_s = min(1 / slowest, lanes / around)
    return batch * steps_per_s / max(book.load.decode_steps, 1e-9)


def request_rate_per_s(book: StageBook, layout: Layout, batch: int) -> float:
    """Typical requests a second through a colocated pipeline that decodes ``batch`` together: the slowest stage decides."""
    last = len(layout) - 1
    return 1 / max(book.request_s(d, n, batch, last=i == last) for i, (d, n) in enumerate(layout))


def colocated_rate_per_s(book: StageBook, layout: Layout) -> float:
    """Typical requests a second that a colocated pipeline passes with as many sequences as fit; 0 if none fit.

    It has one batch a stage: either the slowest stage is always busy, or a batch travels around without waiting.
    """
    count = sequences(book, layout)
    if count == 0:
        return 0.0
    lanes = min(len(layout), count)
    batch = max(count // lanes, 1)
    last = len(layout) - 1
    around_s = sum(book.request_s(d, n, batch, last=i == last) for i, (d, n) in enumerate(layout))
    around_s += sum(book.request_hop_s(a, b, batch) for (a, _), (b, _) in pairwise(layout))
    return min(request_rate_per_s(book, layout, batch), lanes / around_s)
