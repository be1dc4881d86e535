"""A profile of a tiny model on this machine, and the simulator that reads it."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from typer.testing import CliRunner

from harness.cli.main import app
from thunderserve.cost.profiled import read_profile
from thunderserve.engine.checkpoint.tiny import tiny
from thunderserve.engine.profile import COLUMNS, Grid, measure, rows, typical
from thunderserve.engine.replica.model import Model

SMALL = Grid(
    prefill_tokens=(1, 32),
    prefill_contexts=(0, 40),
    decode_batches=(1, 4),
    decode_contexts=(8, 100),
    repeats=2,
    cache_tokens=2048,
    least_after_context=32,
)


def test_every_shape_is_measured_and_the_cost_model_reads_it(tmp_path: Path) -> None:
    model = Model(str(tiny(tmp_path / "tiny")))
    heard: list[tuple[int, int]] = []
    found = measure(model, SMALL, lambda done, whole: heard.append((done, whole)))
    assert [one.shape for one in found] == list(SMALL.shapes(model.max_context))
    assert {tuple(one.shape) for one in found} == {
        ("decode", 1, 1, 8), ("decode", 4, 4, 8), ("decode", 1, 1, 100), ("decode", 4, 4, 100), ("prefill", 1, 1, 0),
        ("prefill", 32, 1, 0), ("prefill", 32, 1, 40), ("prefill", 32, 4, 0),
    }  # fmt: skip
    assert heard == [(done, 16) for done in range(1, 17)]  # two rounds over eight shapes
    path = tmp_path / "profile.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows(found, "cpu-core", "tiny")])
    read = read_profile(path)
    assert [(row.phase, row.tokens, row.batch, row.context) for row in read] == [tuple(one.shape) for one in found]
    assert [row.seconds for row in read] == pytest.approx([one.seconds for one in found], rel=1e-5)


def test_a_hiccup_of_the_machine_does_not_count_and_a_slow_half_does() -> None:
    assert typical([1.0, 1.0, 1.0, 1.0, 9.0]) == 1.0
    assert typical([1.0, 1.0, 1.0, 2.0, 2.0]) == pytest.approx(4 / 3)  # the median would say 1
    assert typical([3.0]) == 3.0


def test_shapes_that_do_not_fit_are_left_out() -> None:
    assert all(shape.context + shape.tokens // shape.batch < 64 for shape in SMALL.shapes(64))


def test_a_dtype_that_is_none_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["profile", "--dtype", "int3", "-o", str(tmp_path / "x.csv")])
    assert "no such dtype" in str(done.exception)
    assert not (tmp_path / "x.csv").exists()
