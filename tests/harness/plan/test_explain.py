"""The explanation says what the search did: numbers that must add up, moves by their names, links that lead somewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.plan.explain import moves, pages, program, start, story, transfers
from harness.plan.explain.pages import Grid, Section
from harness.plan.judge import Verdict
from harness.plan.make import Made
from thunderserve.scheduler.lower import Lower
from thunderserve.scheduler.moves import SPLIT, moves_for
from thunderserve.scheduler.solution import Group, canonical
from thunderserve.spec.plan import Phase

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def told(made: Made, searched: Verdict) -> list[Section]:
    return story.tell(made, searched)


@pytest.fixture(scope="module")
def lower(made: Made, searched: Verdict) -> Lower:
    assert made.search is not None
    return made.search.system.lower(searched.case.problem(0))


def grids(section: Section) -> list[Grid]:
    return [block for block in section.blocks if isinstance(block, Grid)]


def test_all_parts_of_the_algorithm_are_told(told: list[Section]) -> None:
    assert [section.title.split(":")[0] for section in told] == [
        "The question",
        "Cards and links",
        "Where the search starts",
        "The first phases",
        "Other starts",
        "The load of the search",
        "Moves tried and taken",
        "Parallel configurations weighed",
        "KV transfer by pair",
        "Who sends to whom",
        "The last choice, and how far estimates are off",
        "The plan",
    ]


def test_files_that_are_named_exist(told: list[Section]) -> None:
    named = {file for section in told for file in section.files}
    assert len(named) > 15
    assert all((ROOT / file).is_file() for file in named)


def test_x_and_y_sum_to_one(made: Made, told: list[Section]) -> None:
    assert made.search is not None
    shares = program.shares_of(made.search.found.estimate)
    assert sum(shares.x.values()) == pytest.approx(1)
    for prefill in shares.x:
        assert sum(y for pair, y in shares.y.items() if pair[0] == prefill) == pytest.approx(1)
    for (prefill, decode), z in shares.z.items():
        assert shares.x[prefill] * shares.y[prefill, decode] == pytest.approx(z)
    answer = grids(next(section for section in told if section.title.startswith("Who sends")))[1]
    assert sum(float(row[1]) for row in answer.rows if row[1]) == pytest.approx(1, abs=1e-3)
    assert sum(float(row[4]) for row in answer.rows) == pytest.approx(1, abs=1e-3)
    flows = {(flow.prefill, flow.decode): flow.share for flow in made.plan.flows}
    assert sorted(shares.z.values()) == pytest.approx(sorted(flows.values()))


def test_the_program_is_held_to_its_capacities(told: list[Section], made: Made) -> None:
    capacities = grids(next(section for section in told if section.title.startswith("Who sends")))[0]
    assert len(capacities.rows) >= 3
    assert all(float(row[2]) >= 0 for row in capacities.rows)


def test_clusters_hold_every_card_once(lower: Lower) -> None:
    (table,) = grids(start.clusters(lower))
    counted = [part.split("×") for row in table.rows for part in row[1].split(" + ")]
    total: dict[str, int] = {}
    for count, node in counted:
        total[node] = total.get(node, 0) + int(count)
    assert total == {"a40": 4, "3090ti": 4}
    leaning = [float(row[5]) for row in table.rows]
    assert leaning == sorted(leaning, reverse=True)


def test_bandwidths_are_those_of_the_links(lower: Lower) -> None:
    matrix = grids(start.cards_and_links(lower))[1]
    across = {(row[0], matrix.columns[place]): row[place] for row in matrix.rows for place in range(1, len(row))}
    assert across["a40", "3090ti"] == "40"


def test_transfers_by_hand(lower: Lower, verdict: Verdict) -> None:
    """Replica 0 to 2: 512 tokens x 2 x 40 layers x 5,120 values x 2 bytes over 40 Gbit/s, and 1 ms."""
    table = grids(transfers.by_pair(lower, verdict))[0]
    row = next(row for row in table.rows if row[0] == "0 → 2")
    raw_bytes = 512 * 2 * 40 * 5120 * 2
    packed_bytes = raw_bytes * 4.5 / 16
    assert row[1] == "a40→3090ti"
    assert float(row[2]) == 1.0
    assert float(row[3]) == 40.0
    assert float(row[4]) == round(raw_bytes / 1e6)
    assert float(row[5]) == round(1e3 * (1e-3 + raw_bytes / 5e9))
    assert float(row[6]) == round(packed_bytes / 1e6)
    assert float(row[7]) == round(1e3 * (1e-3 + packed_bytes / 5e9))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["flip", "split", "merge"]))
def test_moves_are_called_by_their_names(seed: int, name: str) -> None:
    rng = np.random.default_rng(seed)
    phases = [SPLIT[int(one)] for one in rng.integers(2, size=3)]
    before = canonical(Group(phase, ((place, 4),)) for place, phase in enumerate(phases))
    after = moves_for(SPLIT)[name](before, rng)
    assert after is not None
    assert moves.name_of(before, after) == name


def test_moving_cards_is_a_move_and_a_new_phase_a_regroup() -> None:
    prefill, decode = Phase.PREFILL, Phase.DECODE
    before = canonical([Group(prefill, ((0, 4),)), Group(decode, ((1, 4),))])
    moved = canonical([Group(prefill, ((0, 3),)), Group(decode, ((0, 1), (1, 4)))])
    both = canonical([Group(prefill, ((0, 3),)), Group(prefill, ((0, 1), (1, 4)))])
    assert moves.name_of(before, moved) == "move"
    assert moves.name_of(before, both) == "regroup"


def test_moves_are_counted(made: Made, told: list[Section]) -> None:
    assert made.search is not None
    table = grids(next(section for section in told if section.title.startswith("Moves")))[1]
    tried = sum(len(step.tried) for step in made.search.steps if not step.restarted)
    assert sum(int(row[1]) for row in table.rows) == tried
    assert sum(int(row[2]) for row in table.rows) == len(made.search.steps)


def test_the_configuration_taken_is_the_best_of_those_shown(told: list[Section], made: Made) -> None:
    section = next(section for section in told if section.title.startswith("Parallel"))
    taken = [row for row in grids(section)[0].rows if row[3] == "taken"]
    assert made.search is not None
    assert len(taken) == len(set(made.search.found.estimate.solution))
    assert all(row[0] for row in taken)


def test_markdown_has_a_table_for_each_grid(told: list[Section]) -> None:
    text = pages.markdown(told)
    assert text.count("\n### ") + text.startswith("### ") == len(told)
    rulers = [line for line in text.splitlines() if line.startswith("| -") and set(line) <= set("|-: ")]
    assert len(rulers) == sum(len(grids(section)) for section in told)
    with pytest.raises(ValueError, match="has not the 2 cells"):
        pages.grid(("a", "b"), [["1"]])


def test_the_page_is_rewritten_between_its_marks_only() -> None:
    from harness.plan import book

    page = "kept\n<!-- judged: four-types-published -->\nold\n<!-- end -->\nkept too\n"
    new = book.written(page)
    assert new.startswith("kept\n<!-- judged: four-types-published -->\n")
    assert new.endswith("<!-- end -->\nkept too\n")
    assert "old" not in new
    assert "| 2xA40 | TP=2, PP=1 | 60 | 4 | prefill | 0, 1, 2, 3 |" in new
    assert book.PART.search(new)


def test_the_page_names_files_that_exist_and_has_its_parts() -> None:
    import re

    from harness.plan import book

    page = (ROOT / "docs" / "scheduler.md").read_text(encoding="utf-8")
    links = set(re.findall(r"\]\((\.\./[^)]+|images/[^)]+)\)", page))
    assert links
    assert all((ROOT / "docs" / link).resolve().is_file() for link in links)
    assert all(part[0].count("\n| ") > 5 for part in book.PART.finditer(page))
