"""Tables go to Parquet and come back, and equal tables are equal bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.store import columns


def table(count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(count)
    return {
        "a": rng.random(count),
        "b": rng.integers(-(2**60), 2**60, count),
        "c": np.where(rng.random(count) < 0.5, np.nan, rng.random(count)),
        "d": rng.integers(-128, 127, count).astype(np.int8),
        "e": rng.integers(-5, 5, count).astype(np.int32),
        "f": np.array([f"név {i % 7}" for i in range(count)], dtype=object),
    }


@pytest.mark.parametrize("count", [1, 7, 5000, 300_000])
def test_a_table_comes_back(tmp_path: Path, count: int) -> None:
    given = table(count)
    columns.write(tmp_path / "t.parquet", given)
    found = columns.read(tmp_path / "t.parquet")
    assert list(found) == list(given)
    for name, values in given.items():
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(found[name], values)


def test_equal_tables_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        columns.write(tmp_path / name, table(4000))
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_awkward_paths(tmp_path: Path) -> None:
    path = tmp_path / "it's [odd] *.parquet"
    columns.write(path, table(3))
    assert len(columns.read(path)["a"]) == 3


def test_what_is_not_a_table_is_said(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(ValueError, match="not a readable table"):
        columns.read(tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="equally long"):
        columns.write(tmp_path / "y.parquet", {"a": np.zeros(2), "b": np.zeros(3)})
