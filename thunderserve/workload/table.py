"""Joint histograms of prompt and output lengths: small enough to ship, close enough to draw from.

The file is CSV. Lines that begin with # say where it comes from; the first other line names the output bins, every
further line begins with its prompt bin, and counts requests. A bin is one number (``13``) or inclusive ends (``14-20``).
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thunderserve.spec.errors import SpecError
from thunderserve.workload.lengths import Cells, Ints

Bin = tuple[int, int]


def read_table(path: Path) -> Cells:
    """The histogram in ``path``. Raises SpecError with the line, for a bin or count that is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror}", file=path) from None
    kept = [(number, row) for number, row in enumerate(csv.reader(lines), 1) if row and not row[0].startswith("#")]
    if len(kept) < 2:
        raise SpecError("holds no histogram", file=path, remedy="write a line of output bins, then a line a prompt bin")
    (line, header), *body = kept
    outputs = [_bin(text, path, line) for text in header[1:]]
    cells = []
    for number, row in body:
        low, high = _bin(row[0], path, number)
        if len(row) != len(header):
            raise SpecError(f"has {len(row)} cells, but the first line has {len(header)}", file=path, line=number)
        cells += [(low, high, *ends, _count(text, path, number)) for ends, text in zip(outputs, row[1:], strict=True)]
    table = np.array([cell for cell in cells if cell[4]], dtype=np.int64).reshape(-1, 5)
    if not len(table):
        raise SpecError("counts no request", file=path)
    return Cells(*table.T)


def _bin(text: str, path: Path, line: int) -> Bin:
    low, _, high = text.partition("-")
    try:
        ends = int(low), int(high or low)
    except ValueError:
        raise SpecError("is not a bin", file=path, line=line, value=text, remedy="write 13 or 14-20") from None
    if not 1 <= ends[0] <= ends[1]:
        raise SpecError("is not a bin of lengths from 1", file=path, line=line, value=text)
    return ends


def _count(text: str, path: Path, line: int) -> int:
    if text.strip() and not text.strip().isdigit():
        raise SpecError("is not a count", file=path, line=line, value=text)
    return int(text or 0)


def derive(prompt: Ints, output: Ints, prompt_bins: int, output_bins: int) -> str:
    """The histogram of some requests as the text of such a file (without its # lines).

    Bins are split where an even spread fits worst, until there are as many as asked for: short where the lengths are
    dense or jump, and fine in the tails. Rows cannot be told from it: prompts and outputs are known by bin alone.
    """
    rows, columns = _bins(prompt, prompt_bins), _bins(output, output_bins)
    counts = np.zeros((len(rows), len(columns)), dtype=np.int64)
    np.add.at(counts, (_index(prompt, rows), _index(output, columns)), 1)
    lines = [["prompt / output", *map(_named, columns)]]
    lines += [[_named(ends), *(str(n) if n else "" for n in line)] for ends, line in zip(rows, counts, strict=True)]
    return "".join(",".join(line) + "\n" for line in lines)


def _named(ends: Bin) -> str:
    return str(ends[0]) if ends[0] == ends[1] else f"{ends[0]}-{ends[1]}"


def _index(values: Ints, bins: list[Bin]) -> NDArray[np.int64]:
    return np.searchsorted([high for _, high in bins], values).astype(np.int64)


def _bins(values: Ints, number: int) -> list[Bin]:
    parts = [np.sort(values)]
    scale = float(values.mean())
    scores = [_misfit(parts[0], scale)]
    while len(parts) < number:
        worst = int(np.argmax([score for score, _ in scores]))
        part, cut = parts[worst], scores[worst][1]
        if part[0] == part[-1]:
            break
        halves = [part[part <= cut], part[part > cut]]
        parts[worst : worst + 1] = halves
        scores[worst : worst + 1] = [_misfit(half, scale) for half in halves]
    return [(int(part[0]), int(part[-1])) for part in parts]


def _misfit(values: Ints, scale: float) -> tuple[float, int]:
    """How many requests an even spread over the sorted ``values`` misplaces, and where to cut.

    The greatest distance of the distribution functions, plus the shift of the mean in units of the overall mean.
    """
    low, high = int(values[0]), int(values[-1])
    if low == high:
        return 0.0, low
    seen, counts = np.unique(values, return_counts=True)
    below = np.cumsum(counts) / len(values)
    width = high - low + 1
    after = np.abs(below - (seen - low + 1) / width)[:-1]
    before = np.abs(np.concatenate([[0.0], below[:-1]]) - (seen - low) / width)[1:]
    distance = np.maximum(after, before)
    shift = abs(float(values.mean()) - (low + high) / 2) / scale
    return len(values) * (float(distance.max()) + shift), int(seen[np.argmax(distance)])
