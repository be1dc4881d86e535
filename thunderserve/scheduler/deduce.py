"""The parallel configuration of a group (the paper, second-hand): which TP degrees, in which order, with how many layers each.

Every kind of the group is cut into TP groups of one degree (a remainder into smaller ones) or left out; the order comes
from ``route``; ``weigh`` finds the layers and says how good the result is. Prefill takes the least latency, decode the most
tokens a second under the TPOT limit. Answers are remembered by group shape: kinds of one breed share theirs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise, product

import numpy as np

from thunderserve.cost.memory import MemoryRules
from thunderserve.cost.network import Route
from thunderserve.cost.step_table import Floats
from thunderserve.scheduler.configuration import Configuration, StageChoice
from thunderserve.scheduler.cuts import Cuts, Need, Paths, best_cut
from thunderserve.scheduler.inventory import Inventory
from thunderserve.scheduler.layer_costs import LayerCostBook
from thunderserve.scheduler.layers import tokens_beside
from thunderserve.scheduler.sample import Sample
from thunderserve.scheduler.solution import Cards, Group
from thunderserve.scheduler.stage_table import Classes, degrees_of, lay_out
from thunderserve.scheduler.weigh import countable, decode_curve, memory_of
from thunderserve.spec.model import ModelSpec
from thunderserve.spec.plan import Batching, Phase

MAX_CUTS = 64
"""Combinations of cuts tried for a group of several kinds; beyond that only cuts without remainder."""
Cut = tuple[tuple[int, tuple[int, ...]], ...]
"""((kind, TP degrees), ...); kinds that are left out are absent."""


@dataclass
class Deducer:
    """Parallel configurations for one cluster, model and workload."""

    inventory: Inventory
    model: ModelSpec
    book: LayerCostBook
    sample: Sample
    batching: dict[Phase, Batching]
    rules: MemoryRules = field(default_factory=MemoryRules)
    alike: bool = False
    """All stages of a replica have one TP degree, as in vLLM."""
    _known: dict[tuple[object, ...], Configuration | None] = field(default_factory=dict)
    _known_paths: dict[tuple[Phase, tuple[int, ...]], Paths] = field(default_factory=dict)
    _cut_options: dict[tuple[int, int, bool], list[tuple[int, tuple[int, ...]]]] = field(default_factory=dict)
    _rows: dict[Phase, dict[tuple[int, int], int]] = field(default_factory=dict)
    _hops: dict[tuple[int, int], Route] = field(default_factory=dict)

    @cached_property
    def _classes(self) -> dict[Phase, Classes]:
        return lay_out(self.inventory, self.model, self.book, self.sample, self.batching, self.rules)

    def classes(self, phase: Phase) -> Classes:
        """The stage table of a phase."""
        return self._classes[phase]

    @cached_property
    def _degrees(self) -> list[list[int]]:
        by_breed = degrees_of(self.inventory, self.model)
        return [by_breed[kind.breed] for kind in self.inventory.kinds]

    def __call__(self, group: Group) -> Configuration | None:
        """The configuration of ``group``; None if it cannot hold the model and the longest request."""
        kind = group.cards[0][0]
        alone = len(group.cards) == 1
        key = (group.phase, self.inventory.breed_of[kind], group.cards[0][1]) if alone else group
        if key not in self._known:
            self._known[key] = self._deduce(group)
        found = self._known[key]
        if found is None or not alone or found.stages[0].kind == kind:
            return found
        return found._replace(stages=tuple(stage._replace(kind=kind) for stage in found.stages))

    def _deduce(self, group: Group) -> Configuration | None:
        return self._best(group, sorted(self._cuts(group.cards), key=_size))

    def options(self, group: Group) -> Iterator[Configuration]:
        """What the configuration is chosen from: each way to cut the group that fits, at its best order and layers."""
        for cut in sorted(self._cuts(group.cards), key=_size):
            one = self._best(group, [cut])
            if one is not None:
                yield one

    def _best(self, group: Group, cuts: list[Cut]) -> Configuration | None:
        """The best of these cuts (of equals the one with fewer stages, then fewer cards: they come first)."""
        if not cuts:
            return None
        kinds = tuple(kind for kind, _ in group.cards)
        number, row_of = {kind: place for place, kind in enumerate(kinds)}, self._row_of(group.phase)
        listed = [[(kind, tp) for kind, degrees in cut for tp in degrees] for cut in cuts]
        flat = [stage for cut in listed for stage in cut]
        table = Cuts(
            np.cumsum([0, *map(len, listed)]),
            np.array([number[kind] for kind, _ in flat], dtype=np.int64),
            np.array([row_of[stage] for stage in flat], dtype=np.int64),
        )
        longest = max(map(len, listed))
        stages, layers = np.zeros(longest, np.int64), np.zeros(longest, np.int64)
        paths = self._paths(group.phase, kinds)
        best = best_cut(self.classes(group.phase).table, table, paths, self._need(group.phase), stages, layers)
        if best < 0:
            return None
        count = len(listed[best])
        chosen = zip(stages[:count].tolist(), layers[:count].tolist(), strict=True)
        return self.finish(
            group.phase, tuple(StageChoice(flat[place][0], flat[place][1], held) for place, held in chosen)
        )

    def _need(self, phase: Phase) -> Need:
        sample = self.sample
        return Need(
            decode=phase is not Phase.PREFILL,
            num_layers=self.model.num_layers,
            tokens=float(sample.longest),
            prompt=sample.mean_prompt,
            context=sample.mean_context,
            limit_s=sample.tpot_target_s,
        )

    def _cuts(self, cards: Cards) -> Iterator[Cut]:
        """Each way to cut the cards into TP groups, if it may hold the model."""
        options = [self._options(kind, count, optional=len(cards) > 1) for kind, count in cards]
        if math.prod(map(len, options)) > MAX_CUTS:
            options = [[(kind, one) for one in _even_cuts_of(count, self._degrees[kind])] for kind, count in cards]
        for choice in product(*options):
            cut = tuple(part for part in choice if part[1])
            if self.alike and len({degree for _, degrees in cut for degree in degrees}) > 1:
                continue
            if 0 < _size(cut)[0] <= self.model.num_layers and self.holds(cut):
                yield cut

    def _options(self, kind: int, count: int, *, optional: bool) -> list[tuple[int, tuple[int, ...]]]:
        key = (kind, count, optional)
        if key not in self._cut_options:
            self._cut_options[key] = [(kind, one) for one in _cuts_of(count, self._degrees[kind], optional)]
        return self._cut_options[key]

    def holds(self, cut: Cut) -> bool:
        """Whether the layers and the longest request find room, whatever the order: a necessary condition, in a moment."""
        return sum(self._room[kind, tp] for kind, degrees in cut for tp in degrees) >= self.model.num_layers

    @cached_property
    def _room(self) -> dict[tuple[int, int], int]:
        """Layers that a stage of a kind and degree holds beside the KV of the longest request, at most."""
        _, table = self.classes(Phase.DECODE)
        layer_bytes = table.layer_bytes + self.sample.longest * table.kv_bytes
        room = np.maximum((table.usable_bytes - table.fixed_bytes[:, 0]) // layer_bytes, 0).astype(int).tolist()
        return {key: room[row] for key, row in self._row_of(Phase.DECODE).items()}

    def _row_of(self, phase: Phase) -> dict[tuple[int, int], int]:
        """Class by kind and degree."""
        found = self._rows.get(phase)
        if found is None:
            row = self.classes(phase).row
            kinds = enumerate(self.inventory.kinds)
            found = {(kind, tp): row[one.breed, tp] for kind, one in kinds for tp in self._degrees[kind]}
            self._rows[phase] = found
        return found

    def _paths(self, phase: Phase, kinds: tuple[int, ...]) -> Paths:
        """Hops between kinds; the order is chosen for the mean prompt, or for one token of each decoding sequence."""
        found = self._known_paths.get((phase, kinds))
        if found is None:
            tokens = self.sample.mean_prompt if phase is Phase.PREFILL else 1.0
            hops = [[self.hop(a, b) for b in kinds] for a in kinds]
            found = Paths(
                np.array([[one.seconds(tokens) for one in row] for row in hops]),
                np.array([[one.latency_s for one in row] for row in hops]),
                np.array([[1 / one.bytes_per_s for one in row] for row in hops]),
            )
            self._known_paths[phase, kinds] = found
        return found

    def hop(self, source: int, target: int) -> Route:
        """The path of activations, as seconds of a number of *tokens*."""
        found = self._hops.get((source, target))
        if found is None:
            path = self.inventory.path(source, target)
            found = Route(path.latency_s, path.bytes_per_s / (self.model.hidden_size * self.model.dtype_bytes))
            self._hops[source, target] = found
        return found

    def hops(self, stages: tuple[tuple[int, int], ...]) -> tuple[float, float]:
        """(latency, seconds a token) of all hops of the stages (kind, degree) together."""
        paths = [self.hop(a, b) for (a, _), (b, _) in pairwise(stages)]
        return sum(path.latency_s for path in paths), sum(1 / path.bytes_per_s for path in paths)

    def finish(self, phase: Phase, stages: tuple[StageChoice, ...]) -> Configuration:
        """All that closed forms need of a configuration whose stages are settled."""
        table = self.classes(phase).table
        pairs = tuple((stage.kind, stage.tp) for stage in stages)
        row_of = self._row_of(phase)
        rows = np.array([row_of[pair] for pair in pairs], dtype=np.int64)
        layers = np.array([stage.num_layers for stage in stages], dtype=np.int64)
        alpha_s, s_per_token = self.hops(pairs)
        block = self.batching[phase].block_tokens
        kv_tokens = int(tokens_beside(*memory_of(table, rows), layers) // block) * block
        busy_s = table.prompt_once_s[rows] + layers[:, None] * table.prompt_layer_s[rows]
        busy_s[0] += table.prompt_first_s[rows[0]]
        busy_s[-1] += table.prompt_last_s[rows[-1]]
        slowest = busy_s[int(np.argmax(busy_s.mean(axis=1)))]
        rate, cycle = np.empty(len(table.batches)), np.empty(len(table.batches))
        hops: Floats = np.asarray(alpha_s + s_per_token * table.batches, dtype=np.float64)
        decode_curve(table, rows, layers, hops, float(max(kv_tokens, 1)), self.sample.mean_context, rate, cycle)
        latency: Floats = busy_s.sum(axis=0) + alpha_s + s_per_token * self.sample.prompts
        return Configuration(
            phase=phase,
            stages=stages,
            kv_tokens=kv_tokens,
            max_sequences=self._lane_limit(phase, kv_tokens, len(stages)),
            latency_s=latency,
            busy_s=float(slowest.mean()),
            busy_cv2=float(slowest.var() / slowest.mean() ** 2),
            rate_per_s=rate,
            cycle_s=cycle,
            codec_s_per_token=self._codec_s_per_token(stages),
        )

    def _lane_limit(self, phase: Phase, kv_tokens: int, stages: int) -> int:
        """See ``Configuration.max_sequences``."""
        most = self.batching[phase].max_sequences
        if phase is not Phase.DECODE:
            return most
        return max(1, min(most, math.ceil(countable(kv_tokens / self.sample.mean_context) / stages)))

    def _codec_s_per_token(self, stages: tuple[StageChoice, ...]) -> float:
        """Longest time in which a card reads its 16-bit KV of one token once (the rule of ``cost.codec``)."""
        layer_bytes = self.model.kv_bytes_per_token() / self.model.num_layers
        return max(
            stage.num_layers
            * layer_bytes
            * max(1 / stage.tp, 1 / self.model.num_kv_heads)
            / self.inventory.kinds[stage.kind].gpu.memory_bytes_per_s
            for stage in stages
        )


def _size(cut: Cut) -> tuple[int, int]:
    """(stages, cards)."""
    return sum(len(degrees) for _, degrees in cut), sum(sum(degrees) for _, degrees in cut)


def _even_cuts_of(count: int, degrees: list[int]) -> list[tuple[int, ...]]:
    """All cards in TP groups of one degree."""
    return [(tp,) * (count // tp) for tp in degrees if count % tp == 0]


def _cuts_of(count: int, degrees: list[int], optional: bool) -> list[tuple[int, ...]]:
    """TP groups of one degree, with and without the remainder in smaller ones; none at all where that is allowed."""
    cuts: dict[tuple[int, ...], None] = {(): None} if optional else {}
    for tp in reversed(degrees):
        if tp <= count:
            whole, rest = (tp,) * (count // tp), count % tp
            cuts[whole] = None
            if rest:
                cuts[whole + tuple(_binary(rest, degrees))] = None
    return list(cuts)


def _binary(rest: int, degrees: list[int]) -> Iterator[int]:
    for tp in sorted(degrees, reverse=True):
        while tp <= rest:
            yield tp
            rest -= tp
