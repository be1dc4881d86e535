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
def _connection(process: int) -> DuckDBPyConnection:
    import duckdb

    # One thread: row groups are then written in order, and the bytes repeat.
    return duckdb.connect(config={"threads": 1})


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def write(path: Path, columns: Columns) -> None:
    """Write ``columns`` to ``path``, in their order. NaN becomes null. Raises ValueError for unequal lengths."""
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1:
        raise ValueError(f"the columns of a table must be equally long, not {sorted(lengths)}")
    connection = _connection(os.getpid())
    connection.register("harness_table", columns)
    try:
        connection.execute(f"COPY harness_table TO {_quoted(path)} (FORMAT parquet, COMPRESSION zstd)")
    finally:
        connection.unregister("harness_table")


def read(path: Path, names: list[str] | None = None) -> Columns:
    """The columns of ``path`` (or those named). Null becomes NaN in float columns. Raises ValueError if unreadable."""
    import duckdb

    chosen = ", ".join(f'"{name}"' for name in names) if names else "*"
    try:
        found = _connection(os.getpid()).execute(f"SELECT {chosen} FROM read_parquet({_quoted(path)})").fetchnumpy()
    except duckdb.Error as error:
        raise ValueError(f"{path} is not a readable table: {str(error).splitlines()[0]}") from None
    return {name: _plain(values) for name, values in found.items()}


def _plain(values: Any) -> NDArray[Any]:
    if isinstance(values, np.ma.MaskedArray):
        if values.dtype.kind == "f":
            return np.asarray(values.filled(np.nan))
        if values.mask.any():
            return np.array([None if masked else value for value, masked in zip(values.data, values.mask, strict=True)])
        return np.asarray(values.data)
    return np.asarray(values)
