"""Measured codec speeds, as ``harness bench codec --write`` saves them, in the shape that the cost model asks for.

One row a codec, direction and shape: ``codec, direction (encode or decode), shape, bytes_per_s, copy_bytes_per_s,
machine``. Bytes are those of the 16-bit keys and values, before encoding or after decoding.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from thunderserve.cost.codec import CodecSpeed
from thunderserve.spec.errors import SpecError, nearest
from thunderserve.spec.kv import KvCodec

COLUMNS = ("codec", "direction", "shape", "bytes_per_s", "copy_bytes_per_s", "machine")


class CodecTime(NamedTuple):
    """One row."""

    codec: str
    direction: str
    shape: str
    bytes_per_s: float
    copy_bytes_per_s: float
    machine: str


def write_codec_times(path: Path, rows: Iterable[CodecTime]) -> None:
    """Save ``rows`` as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for row in rows:
            table.writerow([*row[:3], f"{row.bytes_per_s:.6g}", f"{row.copy_bytes_per_s:.6g}", row.machine])


def read_codec_times(path: Path) -> list[CodecTime]:
    """The rows of a file.

    Raises:
        SpecError: a column is missing, or a number is not one.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = set(COLUMNS) - set(reader.fieldnames or ())
        if missing:
            raise SpecError(f"a table of codec speeds needs the columns {', '.join(sorted(missing))}", file=path)
        try:
            return [_row(line) for line in reader]
        except (TypeError, ValueError) as error:
            raise SpecError(str(error), file=path, line=reader.line_num) from error


def _row(line: dict[str, str]) -> CodecTime:
    rates = [float(line["bytes_per_s"]), float(line["copy_bytes_per_s"])]
    if not all(0 < rate < float("inf") for rate in rates):
        raise ValueError("speeds must be positive")
    return CodecTime(line["codec"], line["direction"], line["shape"], rates[0], rates[1], line["machine"])


@dataclass(frozen=True)
class Measured:
    """Speeds from the table at ``path``."""

    path: Path

    def __call__(self, codec: KvCodec) -> CodecSpeed:
        """The speed of ``codec``. Raises SpecError when the table has no such codec."""
        return codec_speed(_rows_of(self.path), codec.name)


@lru_cache(maxsize=16)
def _rows_of(path: Path) -> tuple[CodecTime, ...]:
    return tuple(read_codec_times(path))


def codec_speed(rows: Iterable[CodecTime], codec: str) -> CodecSpeed:
    """The shares of memory bandwidth that ``codec`` reaches, the slowest shape deciding.

    A copy reads and writes, so the memory moves twice ``copy_bytes_per_s``; carried over to a card's ``memory_bytes_per_s`` this
    assumes that the card is held up by its memory as the measured machine is.

    Raises:
        SpecError: the table has no such codec.
    """
    rows = list(rows)
    shares = {
        direction: [
            row.bytes_per_s / (2 * row.copy_bytes_per_s)
            for row in rows
            if row.codec == codec and row.direction == direction
        ]
        for direction in ("encode", "decode")
    }
    if not all(shares.values()):
        raise SpecError("no measured codec", value=codec, remedy=nearest(codec, {row.codec for row in rows}))
    return CodecSpeed(encode_share=min(shares["encode"]), decode_share=min(shares["decode"]))
