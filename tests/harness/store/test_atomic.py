"""Folders and files appear whole or not at all."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.store import atomic

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(JSON)
def test_json_comes_back_and_order_does_not_matter(content: object) -> None:
    text = atomic.dumps(content)
    assert json.loads(text) == content
    if isinstance(content, dict):
        assert atomic.dumps(dict(reversed(content.items()))) == text


def test_json_refuses_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        atomic.dumps({"x": float("nan")})


def test_a_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "cells" / "a"
    with atomic.folder(target) as draft:
        (draft / "x").write_text("1")
        assert not target.exists()
        assert draft.name.startswith(atomic.TEMPORARY)
    assert (target / "x").read_text() == "1"
    assert [item.name for item in target.parent.iterdir()] == ["a"]


def test_a_block_that_fails_leaves_nothing_and_keeps_the_old(tmp_path: Path) -> None:
    target = tmp_path / "a"
    with atomic.folder(target) as draft:
        (draft / "x").write_text("old")
    with contextlib.suppress(RuntimeError), atomic.folder(target) as draft:
        (draft / "x").write_text("new")
        raise RuntimeError
    assert (target / "x").read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["a"]


def test_a_folder_replaces_an_older_one(tmp_path: Path) -> None:
    target = tmp_path / "a"
    for name in ("x", "y"):
        with atomic.folder(target) as draft:
            (draft / name).write_text(name)
    assert [item.name for item in target.iterdir()] == ["y"]


def test_drafts_of_the_dead_are_swept_up(tmp_path: Path) -> None:
    (tmp_path / f"{atomic.TEMPORARY}cell-1").mkdir()
    (tmp_path / f"{atomic.TEMPORARY}file-2").write_text("half")
    (tmp_path / "whole").mkdir()
    assert atomic.sweep_up(tmp_path) == 2
    assert [item.name for item in tmp_path.iterdir()] == ["whole"]


def test_a_second_run_is_kept_out(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from harness.store.atomic import lock\nwith lock(Path(sys.argv[1])): pass"
    root = Path(__file__).resolve().parents[3]
    second = [sys.executable, "-c", code, str(tmp_path)]
    with atomic.lock(tmp_path):
        refused = subprocess.run(second, cwd=root, capture_output=True, text=True, check=False)
    assert "another run is writing" in refused.stderr
    assert subprocess.run(second, cwd=root, check=False).returncode == 0
