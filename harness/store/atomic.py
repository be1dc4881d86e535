"""Files and folders that appear whole or not at all, whenever the process is killed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

TEMPORARY = ".tmp-"
"""Prefix of what is still being written: a hidden sibling of the place it will take."""


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _temporary(target: Path) -> Path:
    return target.parent / f"{TEMPORARY}{target.name}-{os.getpid()}"


def write_with(target: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make a hidden sibling; fsync it and rename it into place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = _temporary(target)
    try:
        write(draft)
        _sync(draft)
        draft.replace(target)
        _sync(target.parent)
    finally:
        draft.unlink(missing_ok=True)


def write_text(target: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    write_with(target, lambda draft: draft.write_bytes(text.encode()))


def dumps(content: Any) -> str:
    """JSON with sorted keys, an outer key a line: equal content is equal bytes. Refuses NaN.

    The parts are on one line each because Python's encoder is ten times slower when it indents.
    """
    if not isinstance(content, dict):
        return _encoder.encode(content) + "\n"
    lines = [f"{_encoder.encode(str(key))}: {_encoder.encode(content[key])}" for key in sorted(content)]
    return "{\n" + ",\n".join(lines) + "\n}\n"


_encoder = json.JSONEncoder(sort_keys=True, ensure_ascii=False, allow_nan=False)


def write_json(target: Path, content: Any) -> None:
    """Write JSON atomically, as ``dumps`` forms it."""
    write_text(target, dumps(content))


def draft_json(target: Path, content: Any) -> None:
    """Write JSON into a draft, which will be made durable and renamed as a whole."""
    target.write_text(dumps(content), encoding="utf-8")


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises ValueError or OSError."""
    return json.loads(path.read_text(encoding="utf-8"))


@contextlib.contextmanager
def folder(target: Path) -> Iterator[Path]:
    """A hidden draft folder that becomes ``target`` when the block ends well, and vanishes when it does not.

    An older folder at ``target`` is replaced. Every file is on disk before the rename.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = _temporary(target)
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        yield draft
        for item in sorted(draft.iterdir()):
            _sync(item)
        _sync(draft)
        if target.exists():
            discard(target)
        draft.rename(target)
        _sync(target.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def discard(target: Path) -> None:
    """Remove a folder: first out of the way under a hidden name, so that half of it is never seen."""
    hidden = target.parent / f"{TEMPORARY}old-{target.name}-{os.getpid()}"
    shutil.rmtree(hidden, ignore_errors=True)
    target.rename(hidden)
    shutil.rmtree(hidden)


def sweep_up(parent: Path) -> int:
    """Remove drafts that a killed process left in ``parent``; how many. Call it only while nobody else writes there."""
    count = 0
    for item in parent.glob(f"{TEMPORARY}*"):
        if item.is_dir():
            shutil.rmtree(item, ignore_errors=True)
        else:
            item.unlink(missing_ok=True)
        count += 1
    return count


class BusyError(RuntimeError):
    """Another run is writing to the same results folder."""


@contextlib.contextmanager
def lock(results: Path) -> Iterator[None]:
    """Keep other runs out of ``results``. The kernel lets go when the process ends, however it ends."""
    import fcntl

    results.mkdir(parents=True, exist_ok=True)
    with (results / ".lock").open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(
                f"another run is writing to {results}; wait for it, or name another folder with --results"
            ) from None
        yield
