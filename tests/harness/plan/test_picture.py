"""The picture: every card once, inside its node, nothing on top of another; wider arrows for more."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.plan.arrangement import Tie, arrange, grid
from harness.plan.judge import Verdict
from harness.plan.layout import Box, card_names, lay_out, overlaps, parts_of, streams_of
from thunderserve.spec.load import load_cluster, load_model
from thunderserve.spec.plan import Plan

pytest.importorskip("matplotlib")


def test_every_card_is_drawn_once(verdict: Verdict) -> None:
    from harness.plan.picture import draw

    figure = draw(verdict)
    drawn = Counter(str(patch.get_gid()) for patch in figure.axes[0].patches)
    cards = {name: count for name, count in drawn.items() if name.startswith("card-")}
    assert cards == {f"card-{device.id}": 1 for device in verdict.case.cluster.devices}
    assert sum(count for name, count in drawn.items() if name.startswith("group-")) == 4
    words = [text.get_text() for text in figure.axes[0].texts]
    assert {"0", "1a", "1b", "2", "3a", "3b"} <= set(words)
    assert sum("busy" in text for text in words) == 1
    wide, _ = figure.get_size_inches()
    assert wide == 6.75


def test_wider_arrows_carry_more(verdict: Verdict) -> None:
    from harness.plan.picture import draw

    widths = {
        str(patch.get_gid()): patch.get_linewidth()
        for patch in draw(verdict).axes[0].patches
        if str(patch.get_gid()).startswith("flow-")
    }
    assert widths["flow-a40-2"] == pytest.approx(0.6 + 4.4 * 0.5)
    assert set(widths) == {"flow-a40-2", "flow-a40-3"}


def test_streams_carry_all_kv_once(verdict: Verdict, plan: Plan) -> None:
    streams = streams_of(plan, verdict.case.cluster, verdict.case.model)
    assert sum(stream.share for stream in streams) == pytest.approx(1.0)
    shared = [(source.devices, target.devices, layers) for source, target, layers in overlaps(*plan.replicas[1::2])]
    assert shared == [((2,), (6,), 15), ((3,), (6,), 5), ((3,), (7,), 20)]


@pytest.mark.parametrize("name", ["cloud-32", "cloud-20-four-types", "cloud-20-three-types", "inhouse-8xa100"])
def test_cards_lie_in_their_nodes_and_apart(name: str, plan: Plan) -> None:
    cluster = load_cluster(name)
    streams = streams_of(plan, cluster, load_model("llama-13b"))
    layout = lay_out(plan, cluster, streams)
    assert sorted(layout.cards) == [device.id for device in cluster.devices]
    for device in cluster.devices:
        card, node = layout.cards[device.id], layout.nodes[device.node]
        assert card.overlap(node) == pytest.approx(card.width * card.height)
    for boxes in (list(layout.cards.values()), list(layout.nodes.values())):
        assert all(a.overlap(b) == 0 for i, a in enumerate(boxes) for b in boxes[:i])
    outlines = [layout.outline(part) for part in parts_of(plan, cluster)]
    assert all(a.overlap(b) == 0 for i, a in enumerate(outlines) for b in outlines[:i])
    whole = Box(0, 0, layout.width, layout.height)
    assert all(box.overlap(whole) == pytest.approx(box.width * box.height) for box in layout.nodes.values())


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 12), st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11), st.floats(0, 1)), max_size=8))
def test_every_node_has_a_place_of_its_own(count: int, drawn: list[tuple[int, int, float]]) -> None:
    ties = [Tie(a % count, b % count, weight) for a, b, weight in drawn]
    places = arrange(count, ties)
    columns, lines = grid(count)
    assert len(set(places)) == count
    assert all(0 <= x < columns and 0 <= y < lines for x, y in places)
    assert places == arrange(count, ties)


def test_what_is_joined_stands_together() -> None:
    places = arrange(9, [Tie(0, 8, 1.0), Tie(3, 8, 1.0)])
    assert all(abs(places[one][0] - places[8][0]) + abs(places[one][1] - places[8][1]) == 1 for one in (0, 3))


def test_names_tell_replica_and_stage(plan: Plan) -> None:
    assert card_names(plan) == {0: "0", 1: "0", 2: "1a", 3: "1b", 4: "2", 5: "2", 6: "3a", 7: "3b"}


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_files_are_written_and_repeat(verdict: Verdict, tmp_path: Path, ending: str) -> None:
    from harness.plan.picture import save

    for name in ("a", "b"):
        save(verdict, tmp_path / "pictures" / f"{name}.{ending}")
    first, second = ((tmp_path / "pictures" / f"{name}.{ending}").read_bytes() for name in ("a", "b"))
    assert len(first) > 5000
    assert first == second
