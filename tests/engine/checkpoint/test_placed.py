"""A folder of the cache is whole or absent: after an error, beside another maker, and over what was left half-made."""

from __future__ import annotations

from pathlib import Path

import pytest

from thunderserve.engine.checkpoint.placed import placed


def make(folder: Path, words: str = "whole") -> None:
    folder.mkdir()
    (folder / "marker").write_text(words)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_whoever_comes_second_leaves_the_first_one_s_alone(tmp_path: Path) -> None:
    with placed(tmp_path / "model", "marker") as mine:
        make(mine, "second")
        with placed(tmp_path / "model", "marker") as theirs:
            make(theirs, "first")
    assert (tmp_path / "model" / "marker").read_text() == "first"
    assert names(tmp_path) == ["model"]


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    def break_off() -> None:
        with placed(tmp_path / "cache" / "model", "marker") as made:
            make(made)
            raise ValueError("half-way")

    with pytest.raises(ValueError, match="half-way"):
        break_off()
    assert names(tmp_path / "cache") == []


def test_a_folder_without_its_marker_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "rest").write_text("of an older version")
    with placed(tmp_path / "model", "marker") as made:
        make(made)
    assert names(tmp_path / "model") == ["marker"]
    assert names(tmp_path) == ["model"]
