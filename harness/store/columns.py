"""Parquet by DuckDB: a table is a dict of equally long numpy arrays. Equal tables are equal bytes."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Columns = dict[str, NDArray[Any]]


@cache
def _connection(process: int) -> DuckDBPyConnection:  # noqa: ARG001  each process has its own
    import duckdb

    # One thread: row groups are then written in order, and the bytes repeat.
    return duckdb.connect(config={"threads": 1})


def write(path: Path, columns: Columns) -> None:
    """Write ``columns`` to ``path``, in their order. NaN becomes null. Raises ValueError for unequal lengths."""
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1:
        raise ValueError(f"the columns of a table must be equally long, not {sorted(lengths)}")
    connection = _connection(os.getpid())
    connection.register("harness_table", columns)
    try:
        connection.view("harness_table").write_parquet(str(path), compression="zstd")
    finally:
        connection.unregister("harness_table")


def read(path: Path) -> Columns:
    """The columns of ``path``. Null becomes NaN in float columns. Raises ValueError if it cannot be read."""
    import duckdb

    try:
        found = _connection(os.getpid()).read_parquet(str(path)).fetchnumpy()
    except duckdb.Error as error:
        raise ValueError(f"{path} is not a readable table: {str(error).splitlines()[0]}") from None
    return {name: _plain(values) for name, values in found.items()}


def _plain(values: Any) -> NDArray[Any]:
    if isinstance(values, np.ma.MaskedArray):
        if values.dtype.kind == "f":
            return np.asarray(values.filled(np.nan))
        return np.asarray(values.filled(None) if values.dtype.kind == "O" else values.data)
    return np.asarray(values)
