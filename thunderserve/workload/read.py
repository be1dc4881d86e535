"""Trace files: CSV or JSON lines, also gzipped, with the columns of the published traces or with columns that are named."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thunderserve.spec.errors import SpecError, nearest
from thunderserve.workload.file import Columns
from thunderserve.workload.lengths import Ints, Rows

KNOWN = {
    "Azure": Columns(arrival="TIMESTAMP", prompt="ContextTokens", output="GeneratedTokens"),
    "Mooncake": Columns(arrival="timestamp", prompt="input_length", output="output_length", unit="ms"),
    "BurstGPT": Columns(arrival="Timestamp", prompt="Request tokens", output="Response tokens"),
    "splitwise-sim": Columns(arrival="arrival_timestamp", prompt="prompt_size", output="token_size"),
    "Vidur": Columns(arrival="arrived_at", prompt="num_prefill_tokens", output="num_decode_tokens"),
    "lengths": Columns(prompt="input_tokens", output="output_tokens"),
    "harness": Columns(arrival="arrival_s", prompt="prompt_tokens", output="output_tokens"),
}
"""Columns of published traces. The arrival column may be missing; the lengths may then be drawn, but not replayed."""

_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_LONGEST = 2**31


def read_rows(path: Path, columns: Columns | None = None) -> Rows:
    """The requests of a trace file in order of arrival, which counts in seconds from the first, on a grid of 1 ns.

    Raises SpecError with file, line, column, value and remedy.
    """
    header, lines = _table(path)
    chosen = columns if columns is not None else _recognised(path, header)
    for name in (chosen.prompt, chosen.output, chosen.arrival if columns is not None else None):
        if name is not None and name not in header:
            raise SpecError("has no such column", file=path, key="columns", value=name, remedy=nearest(name, header))
    numbers = [number for number, _ in lines]
    if not lines:
        raise SpecError("holds no requests", file=path)
    prompt = _tokens(path, chosen.prompt, numbers, [row.get(chosen.prompt) for _, row in lines])
    output = _tokens(path, chosen.output, numbers, [row.get(chosen.output) for _, row in lines])
    if chosen.arrival is None or chosen.arrival not in header:
        return Rows(prompt, output, None)
    at = _seconds(path, chosen, numbers, [row.get(chosen.arrival) for _, row in lines])
    order = np.argsort(at, kind="stable")
    return Rows(prompt[order], output[order], at[order])


Lines = list[tuple[int, dict[str, Any]]]


def _table(path: Path) -> tuple[list[str], Lines]:
    """Column names, and each row with the number of its line."""
    kind = Path(path.name.removesuffix(".gz")).suffix
    if kind not in {".csv", ".jsonl", ".json"}:
        raise SpecError("is not a trace file", file=path, remedy="give .csv or .jsonl, plain or .gz")
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
            return _csv(path, text) if kind == ".csv" else _json_lines(path, text)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise SpecError(f"cannot be read: {error}", file=path) from None


def _csv(path: Path, text: io.TextIOWrapper) -> tuple[list[str], Lines]:
    reader = csv.reader(text)
    header = [name.strip() for name in next(reader, [])]
    lines: Lines = []
    for row in reader:
        if not row:
            continue
        if len(row) != len(header):
            raise SpecError(f"has {len(row)} fields, but the header has {len(header)}", file=path, line=reader.line_num)
        lines.append((reader.line_num, dict(zip(header, row, strict=True))))
    return header, lines


def _json_lines(path: Path, text: io.TextIOWrapper) -> tuple[list[str], Lines]:
    lines = list(_objects(path, text))
    return list(lines[0][1]) if lines else [], lines


def _objects(path: Path, text: io.TextIOWrapper) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise SpecError(f"is not JSON: {error.msg}", file=path, line=number) from None
        if not isinstance(row, dict):
            raise SpecError("is not a JSON object", file=path, line=number, remedy="write one object a line")
        yield number, row


def _recognised(path: Path, header: list[str]) -> Columns:
    for columns in KNOWN.values():
        if columns.prompt in header and columns.output in header:
            return columns
    known = "; ".join(f"{columns.prompt}, {columns.output} ({name})" for name, columns in KNOWN.items())
    raise SpecError(
        f"has columns that are not known: {', '.join(header)}",
        file=path,
        remedy=f"name them, as in 'columns: {{arrival: t, prompt: p, output: o, unit: ms}}'; known: {known}",
    )


def _tokens(path: Path, column: str, numbers: list[int], values: list[Any]) -> Ints:
    found = np.zeros(len(values), dtype=np.int64)
    for index, value in enumerate(values):
        try:
            number = int(value) if isinstance(value, str) else value
        except ValueError:
            number = None
        if isinstance(number, float) and number.is_integer():
            number = int(number)
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < _LONGEST:
            raise SpecError(
                "is not a number of tokens",
                file=path,
                line=numbers[index],
                key=column,
                value=value if value is not None else "nothing",
                remedy="write a whole number, 0 or more",
            )
        found[index] = number
    return found


def _seconds(path: Path, columns: Columns, numbers: list[int], values: list[Any]) -> NDArray[np.float64]:
    """Nanoseconds are counted as integers, so that a date does not swallow them."""
    parsed = np.zeros(len(values), dtype=np.int64)
    for index, value in enumerate(values):
        ns = _nanoseconds(value, _SECONDS[columns.unit])
        if ns is None:
            raise SpecError(
                "is not a time",
                file=path,
                line=numbers[index],
                key=columns.arrival or "",
                value=value if value is not None else "nothing",
                remedy=f"write a number of {columns.unit}, or a date and time as 2023-11-16 18:17:03.97",
            )
        parsed[index] = ns
    return np.asarray((parsed - parsed.min()) / 1e9)


def _nanoseconds(value: Any, unit_s: float) -> int | None:
    if isinstance(value, bool) or value is None:
        return None
    try:
        return round(float(value) * unit_s * 1e9)
    except (ValueError, OverflowError):
        pass
    try:
        stamp = np.datetime64(str(value).strip().removesuffix("Z").removesuffix("+00:00"), "ns")
    except ValueError:
        return None
    return None if np.isnat(stamp) else int(stamp.astype(np.int64))
