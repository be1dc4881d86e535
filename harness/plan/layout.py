"""Where everything of a picture lies: nodes on a grid, in each the cards of one replica next to each other."""

from __future__ import annotations

import string
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from harness.figures._style import TEXT_IN
from harness.plan.arrangement import Tie, arrange, grid
from thunderserve.spec.cluster import Cluster
from thunderserve.spec.model import ModelSpec
from thunderserve.spec.plan import Plan, Replica, Stage

CARD, GAP, BREAK = 0.25, 0.05, 0.08
"""Inches: a card, between cards, and more between groups."""
EDGE, HEAD, FOOT = 0.12, 0.21, 0.13
"""Inches: beside the cards of a node, for its name, and below each line of groups for their shares."""
APART = (0.85, 0.5)
"""Inches between nodes, across and down."""
ABREAST = 4
"""Cards beside each other in a node."""
IDLE = -1
"""Replica number of cards that none uses."""


class Box(NamedTuple):
    """A rectangle, in inches."""

    x: float
    y: float
    width: float
    height: float

    @property
    def centre(self) -> tuple[float, float]:
        """Its middle."""
        return self.x + self.width / 2, self.y + self.height / 2

    def grown(self, by: float) -> Box:
        """The same box with a margin."""
        return Box(self.x - by, self.y - by, self.width + 2 * by, self.height + 2 * by)

    def exit_towards(self, x: float, y: float) -> tuple[float, float]:
        """Where the straight line from the middle to a point outside leaves the box."""
        middle = self.centre
        across, up = x - middle[0], y - middle[1]
        reach = min(
            self.width / 2 / abs(across) if across else float("inf"), self.height / 2 / abs(up) if up else float("inf")
        )
        return middle[0] + across * min(reach, 1.0), middle[1] + up * min(reach, 1.0)

    def overlap(self, other: Box) -> float:
        """Area in common."""
        wide = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        high = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        return max(wide, 0.0) * max(high, 0.0)


class Part(NamedTuple):
    """The cards of one replica on one node: what an outline goes around."""

    replica: int
    node: str


class Stream(NamedTuple):
    """KV from the groups of one node to a part of another; or, inside a node, from part to part."""

    source: Part | str
    """A part, or a node."""
    target: Part
    share: float
    """Of all KV that the plan's requests make."""

    @property
    def link(self) -> tuple[str, str]:
        """The nodes it joins."""
        return self.source if isinstance(self.source, str) else self.source.node, self.target.node


@dataclass(frozen=True)
class Layout:
    """Where everything lies, y upwards."""

    width: float
    height: float
    nodes: dict[str, Box]
    cards: dict[int, Box]
    parts: dict[Part, list[int]]

    @property
    def shrink(self) -> float:
        """What sizes of type are multiplied by where the picture is wider than a page."""
        return min(TEXT_IN / self.width, 1.0)

    def outline(self, part: Part) -> Box:
        """Around the cards of a part (they lie next to each other)."""
        boxes = [self.cards[card] for card in self.parts[part]]
        x, y = min(box.x for box in boxes), min(box.y for box in boxes)
        right, top = max(box.x + box.width for box in boxes), max(box.y + box.height for box in boxes)
        return Box(x, y, right - x, top - y).grown(0.035)


def parts_of(plan: Plan, cluster: Cluster) -> dict[Part, list[int]]:
    """The cards of every part; those that no replica uses form parts of replica ``IDLE``."""
    owner = {card: number for number, replica in enumerate(plan.replicas) for card in replica.devices}
    order = [card for replica in plan.replicas for card in replica.devices]
    order += [device.id for device in cluster.devices if device.id not in owner]
    found: dict[Part, list[int]] = defaultdict(list)
    for card in order:
        found[Part(owner.get(card, IDLE), cluster.devices[card].node)].append(card)
    return dict(found)


def card_names(plan: Plan) -> dict[int, str]:
    """``3``, or ``3a`` and ``3b`` for the stages of a pipeline, by card."""
    return {
        card: f"{number}{_letter(stage) if len(replica.stages) > 1 else ''}"
        for number, replica in enumerate(plan.replicas)
        for stage, one in enumerate(replica.stages)
        for card in one.devices
    }


def _letter(stage: int) -> str:
    return string.ascii_lowercase[stage] if stage < len(string.ascii_lowercase) else f".{stage}"


def streams_of(plan: Plan, cluster: Cluster, model: ModelSpec) -> list[Stream]:
    """All streams, the thinnest first. A decode stage gets each layer from the stage that has it."""
    found: dict[tuple[Part | str, Part], float] = defaultdict(float)
    for flow in plan.flows:
        if flow.prefill == flow.decode:
            continue
        for source, target, layers in overlaps(plan.replicas[flow.prefill], plan.replicas[flow.decode]):
            start = Part(flow.prefill, cluster.devices[source.devices[0]].node)
            end = Part(flow.decode, cluster.devices[target.devices[0]].node)
            found[start if start.node == end.node else start.node, end] += flow.share * layers / model.num_layers
    return sorted((Stream(*ends, share) for ends, share in found.items()), key=lambda one: (one.share, repr(one)))


def overlaps(prefill: Replica, decode: Replica) -> Iterator[tuple[Stage, Stage, int]]:
    """Pairs of stages that hold the same layers, and how many."""
    for source, start in zip(prefill.stages, prefill.first_layers, strict=True):
        for target, begin in zip(decode.stages, decode.first_layers, strict=True):
            shared = min(start + source.num_layers, begin + target.num_layers) - max(start, begin)
            if shared > 0:
                yield source, target, shared


def lay_out(plan: Plan, cluster: Cluster, streams: Sequence[Stream]) -> Layout:
    """Nodes that exchange KV or activations stand close to each other."""
    parts = parts_of(plan, cluster)
    rows = {node: _rows([part for part in parts if part.node == node], parts) for node in cluster.nodes}
    width = ABREAST * (CARD + GAP) + (ABREAST - 1) * BREAK + 2 * EDGE
    columns, lines = grid(len(cluster.nodes))
    places = dict(zip(cluster.nodes, arrange(len(cluster.nodes), _ties(plan, cluster, streams)), strict=True))
    heights = {node: _height(rows[node], parts) for node in cluster.nodes}
    tallest = [
        max((heights[node] for node, place in places.items() if place[1] == line), default=0.0) for line in range(lines)
    ]
    height = sum(tallest) + (lines - 1) * APART[1] + 0.1
    nodes: dict[str, Box] = {}
    cards: dict[int, Box] = {}
    for node, (column, line) in places.items():
        top = height - 0.05 - sum(tallest[:line]) - line * APART[1]
        below = top - (tallest[line] + heights[node]) / 2
        nodes[node] = Box(0.05 + column * (width + APART[0]), below, width, heights[node])
        lean = _leaning(node, places, plan, cluster, streams)
        ordered = [_from_left(row, lean) for row in rows[node]]
        cards |= _cards(nodes[node], ordered, parts)
    return Layout(columns * width + (columns - 1) * APART[0] + 0.1, height, nodes, cards, parts)


def _rows(own: Iterable[Part], parts: dict[Part, list[int]]) -> list[list[Part]]:
    """Parts into rows of ``ABREAST`` cards, the largest first, each where it still fits. A larger one has rows of its own."""
    rows: list[list[Part]] = []
    for part in sorted(own, key=lambda part: (part.replica == IDLE, -len(parts[part]), part.replica)):
        room = (row for row in rows if sum(len(parts[one]) for one in row) + len(parts[part]) <= ABREAST)
        row = next(room, None)
        if row is None:
            rows.append([part])
        else:
            row.append(part)
    return rows


def _lines(row: Sequence[Part], parts: dict[Part, list[int]]) -> int:
    """Lines of cards that a row needs: one, or more for a part of more than ``ABREAST`` cards."""
    return max(-(-len(parts[part]) // ABREAST) for part in row)


def _height(rows: Sequence[Sequence[Part]], parts: dict[Part, list[int]]) -> float:
    lines = sum(_lines(row, parts) for row in rows)
    return HEAD + lines * (CARD + GAP) - GAP + len(rows) * FOOT + (len(rows) - 1) * GAP + 0.02


def _cards(node: Box, rows: Sequence[Sequence[Part]], parts: dict[Part, list[int]]) -> dict[int, Box]:
    found = {}
    top = node.y + node.height - HEAD
    for row in rows:
        count = min(sum(len(parts[part]) for part in row), ABREAST)
        wide = count * CARD + (count - 1) * GAP + (len(row) - 1) * BREAK
        x = node.x + (node.width - wide) / 2
        for part in row:
            for place, card in enumerate(parts[part]):
                line, column = divmod(place, ABREAST)
                found[card] = Box(x + column * (CARD + GAP), top - CARD - line * (CARD + GAP), CARD, CARD)
            x += min(len(parts[part]), ABREAST) * (CARD + GAP) + BREAK
        top -= _lines(row, parts) * (CARD + GAP) + FOOT
    return found


def _from_left(row: Sequence[Part], lean: dict[Part, float]) -> list[Part]:
    """Parts whose partners are on the left come first, unused cards last."""
    return sorted(row, key=lambda part: (part.replica == IDLE, lean.get(part, 0.0)))


def _leaning(
    node: str, places: dict[str, tuple[int, int]], plan: Plan, cluster: Cluster, streams: Sequence[Stream]
) -> dict[Part, float]:
    """How far to the right the partners of each part of a node are: parts stand on the side of their partners."""
    pull: dict[Part, list[int]] = defaultdict(list)
    for stream in streams:
        if stream.target.node == node:
            pull[stream.target].append(places[stream.link[0]][0] - places[node][0])
    for number, replica in enumerate(plan.replicas):
        for a, b in hops(replica, cluster):
            for own, other in ((a, b), (b, a)):
                if own == node:
                    pull[Part(number, node)].append(places[other][0] - places[node][0])
    return {part: sum(offsets) / len(offsets) for part, offsets in pull.items()}


def _ties(plan: Plan, cluster: Cluster, streams: Sequence[Stream]) -> list[Tie]:
    """What joins nodes: streams, and pipelines that lie on several."""
    number = {node: place for place, node in enumerate(cluster.nodes)}
    ties = [
        Tie(number[stream.link[0]], number[stream.link[1]], stream.share)
        for stream in streams
        if stream.link[0] != stream.link[1]
    ]
    return ties + [Tie(number[a], number[b], 0.3) for replica in plan.replicas for a, b in hops(replica, cluster)]


def hops(replica: Replica, cluster: Cluster) -> list[tuple[str, str]]:
    """The node pairs that activations of a replica cross."""
    nodes = [cluster.devices[stage.devices[0]].node for stage in replica.stages]
    return [(a, b) for a, b in pairwise(nodes) if a != b]
