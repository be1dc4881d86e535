"""How cards, groups and solutions are written."""

from __future__ import annotations

from collections.abc import Sequence

from thunderserve.scheduler.configuration import StageChoice
from thunderserve.scheduler.inventory import Inventory
from thunderserve.scheduler.solution import Cards, Group, Solution


def cards(inventory: Inventory, chosen: Cards) -> str:
    """``2 a40 + 1 3090ti-0``: how many of which node; the type too where a node has several."""
    nodes = [kind.node for kind in inventory.kinds]
    words = []
    for kind, count in chosen:
        one = inventory.kinds[kind]
        mixed = nodes.count(one.node) > 1
        words.append(f"{count}×{one.node}" + (f"/{one.gpu.name}" if mixed else ""))
    return " + ".join(words)


def group(inventory: Inventory, one: Group) -> str:
    """``prefill(2×a40)``."""
    return f"{one.phase.value}({cards(inventory, one.cards)})"


def groups(inventory: Inventory, several: Sequence[Group]) -> str:
    """Joined by commas; a dash for none."""
    return ", ".join(group(inventory, one) for one in several) or "-"


def solution(inventory: Inventory, one: Solution) -> str:
    """All its groups, equal ones counted."""
    names = [group(inventory, part) for part in one]
    counted = {name: names.count(name) for name in names}
    return ", ".join(name if count == 1 else f"{count} × {name}" for name, count in counted.items())


def stages(inventory: Inventory, chosen: Sequence[StageChoice]) -> str:
    """``TP=2 on a40 (38 layers) → TP=2 on 3090ti (22)``."""
    words = []
    for place, stage in enumerate(chosen):
        unit = " layers" if place == 0 else ""
        words.append(f"TP={stage.tp} on {inventory.kinds[stage.kind].node} ({stage.num_layers}{unit})")
    return " → ".join(words)
