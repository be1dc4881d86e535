"""Answers as they come, a line each, so that a run that is killed loses at most the batch it was in."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from eval.contract import Answer

Record = dict[str, Any]


def read(path: Path) -> list[Record]:
    """The answers in a journal. A last line that was cut off is dropped; so is nothing else.

    Raises ValueError for a damaged line before the last.
    """
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    if lines[-1]:  # no newline at its end: it was being written
        lines[-1] = ""
    return [_parsed(path, number, line) for number, line in enumerate(lines, 1) if line]


def _parsed(path: Path, number: int, line: str) -> Record:
    try:
        found: Record = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{path}:{number}: is not an answer: {error}; remove the file to measure it again") from None
    return found


def mend(path: Path) -> None:
    """Cut off a half-written last line, so that what is appended starts on a line of its own."""
    if path.is_file():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(path, whole)


def append(stream: TextIO, answers: Iterable[Answer]) -> None:
    """Write ``answers``, and have them on disk before returning."""
    stream.writelines(json.dumps(asdict(answer), ensure_ascii=False, allow_nan=False) + "\n" for answer in answers)
    stream.flush()
    os.fsync(stream.fileno())
