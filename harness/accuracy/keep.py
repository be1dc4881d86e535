"""A study's results on disk: journals while it runs, cells when they are whole, and where it all came from."""

from __future__ import annotations

import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from harness.accuracy import journal
from harness.accuracy.study import Opened
from harness.accuracy.units import Unit
from harness.accuracy.worker import Outcome
from harness.store import atomic, columns, manifest
from harness.sweep.digest import ROOT

PACKAGES = ("torch", "transformers", "lm-eval", "datasets", "numpy", "numba", "zstandard")


def journal_of(folder: Path, unit: Unit) -> Path:
    """Where the answers of a unit are collected."""
    return folder / "journals" / f"{unit.key}.jsonl"


def kv_error_of(folder: Path, model: str) -> Path:
    """The table of KV errors of a model."""
    return folder / "kv-error" / f"{Path(model).name}.parquet"


def is_finished(folder: Path, unit: Unit) -> bool:
    """Whether every codec of a unit has its cell."""
    return all((folder / "cells" / unit.cell(codec) / "cell.json").is_file() for codec in unit.codecs)


def finish(folder: Path, unit: Unit) -> None:
    """Make a cell of each codec's answers; a failure on record is void."""
    records = journal.read(journal_of(folder, unit))
    for codec in unit.codecs:
        own = sorted((one for one in records if one["codec"] == codec), key=lambda one: int(one["question"]))
        with atomic.folder(folder / "cells" / unit.cell(codec)) as draft:
            columns.write(draft / "answers.parquet", _columns(own))
            content = unit.described() | {
                "id": unit.cell(codec),
                "codec": codec,
                "questions": len(own),
                "unit": unit.key,
            }
            content["files"] = {"answers.parquet": atomic.file_digest(draft / "answers.parquet")}
            atomic.draft_json(draft / "cell.json", content)
    shutil.rmtree(folder / "failed" / unit.key, ignore_errors=True)


def _columns(records: list[journal.Record]) -> columns.Columns:
    """A row an answer; lists as JSON text, because each task has its own number of choices."""
    names = sorted({name for one in records for name in one["scores"]})
    found: columns.Columns = {
        "question": np.array([int(one["question"]) for one in records], np.int64),
        "group": np.array([str(one["group"]) for one in records], object),
    }
    for name in names:
        found[f"score.{name}"] = np.array([float(one["scores"][name]) for one in records])
    found["output"] = np.array([one["output"] for one in records], object)
    for name in ("output_tokens", "context_tokens", "raw_bytes", "wire_bytes"):
        found[name] = np.array([int(one[name]) for one in records], np.int64)
    found["kl"] = np.array([np.nan if one["kl"] is None else float(one["kl"]) for one in records])
    for name in ("loglikelihoods", "continuation_tokens"):
        found[name] = np.array([atomic.dumps(list(one[name])).strip() for one in records], object)
    return found


def write_failure(folder: Path, unit: Unit, outcome: Outcome) -> None:
    """Put a failed unit on record, with its traceback."""
    content = unit.described() | {"error": outcome.error, "trace": outcome.trace}
    atomic.write_json(folder / "failed" / unit.key / "failure.json", content)


def write_manifest(folder: Path, opened: Opened, units: list[Unit]) -> None:
    """By what, when and from what it was made."""
    versions = {name: _version(name) for name in PACKAGES}
    content: dict[str, Any] = {
        "argv": manifest.argv(),
        "code": manifest.code(ROOT),
        "versions": manifest.versions() | versions,
        "machine": manifest.machine(),
        "study": opened.study.model_dump(mode="json"),
        "data": "local files" if opened.data else "hub",
        "units": [unit.described() | {"key": unit.key} for unit in units],
    }
    atomic.write_json(folder / "manifest.json", content)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
