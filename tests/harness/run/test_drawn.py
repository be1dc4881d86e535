"""Figures of a finished sweep are kept; other results, other names, other code, or a lost file draw them again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.result import SweepResult
from harness.run import drawn

NAMES = ("throughput", "cost")


@pytest.fixture
def result(build: Callable[..., SweepResult]) -> SweepResult:
    made = build()
    manifest = made.manifest | {"cells": {"a": "1"}, "code": {"commit": "abc"}}
    return replace(made, manifest=manifest)


def files(result: SweepResult, names: tuple[str, ...] = NAMES) -> list[Path]:
    folder = result.folder / "figures"
    folder.mkdir(exist_ok=True)
    made = [folder / f"{name}.{ending}" for name in names for ending in ("pdf", "csv")]
    for path in made:
        path.write_text("drawn")
    return made


def test_what_was_drawn_is_found_again(result: SweepResult) -> None:
    assert drawn.already(result, NAMES) is None
    made = files(result)
    drawn.remember(result, NAMES, made)
    assert drawn.already(result, NAMES) == made


@pytest.mark.parametrize("change", [{"cells": {"a": "2"}}, {"code": {"commit": "def"}}])
def test_another_result_is_drawn_again(result: SweepResult, change: dict[str, object]) -> None:
    drawn.remember(result, NAMES, files(result))
    assert drawn.already(replace(result, manifest=result.manifest | change), NAMES) is None


def test_other_names_and_lost_files_are_drawn_again(result: SweepResult) -> None:
    made = files(result)
    drawn.remember(result, NAMES, made)
    assert drawn.already(result, NAMES[:1]) is None
    made[0].unlink()
    assert drawn.already(result, NAMES) is None


def test_other_drawing_code_draws_again(result: SweepResult, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn.remember(result, NAMES, files(result))
    monkeypatch.setattr(drawn, "code_version", lambda _: "other")
    assert drawn.already(result, NAMES) is None


def test_a_figure_that_failed_is_tried_again(result: SweepResult) -> None:
    drawn.remember(result, NAMES, files(result, NAMES[:1]))
    assert drawn.already(result, NAMES) is None
