"""What runs at once: one model on one task for all codecs, because they share the prefill. A cell is one codec of a unit."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.accuracy.study import Opened
from harness.sweep import digest

DECIDING = ("eval", "thunderserve/kv", "thunderserve/engine/checkpoint")
"""Code whose change makes every answer a new one."""


@dataclass(frozen=True)
class Unit:
    """A model, a task, how many questions, and which."""

    model: str
    task: str
    limit: int | None
    seed: int
    batch: int
    codecs: tuple[str, ...]
    key: str
    """Identifies its answers, whatever the codecs: 16 hex digits of a hash of the above, the data and the code."""

    def cell(self, codec: str) -> str:
        """The id of one codec's cell."""
        return digest.short({"unit": self.key, "codec": codec})

    @property
    def words(self) -> str:
        """``smollm2-135m coqa, seed 0``."""
        return f"{Path(self.model).name} {self.task}" + (f", seed {self.seed}" if self.seed else "")

    def described(self) -> dict[str, Any]:
        """As JSON."""
        return {"model": self.model, "task": self.task, "limit": self.limit, "seed": self.seed}


def expand(opened: Opened) -> list[Unit]:
    """Every unit of a study, in the order of its axes."""
    study = opened.study
    code = digest.code_version(DECIDING)
    found = []
    for model in study.models:
        for task in study.tasks:
            for seed in study.seeds:
                limit = task.limit if task.limit is not None else study.limit
                identity = {
                    "model": model, "task": task.name, "limit": limit, "seed": seed, "dtype": study.dtype,
                    "wire_dtype": study.wire_dtype, "data": _data_digest(opened.data, task.name), "code": code,
                }  # fmt: skip
                batch = task.batch if task.batch is not None else study.batch
                found.append(Unit(model, task.name, limit, seed, batch, study.codecs, digest.short(identity)))
    return found


def _data_digest(data: str | None, task: str) -> str:
    """SHA-256 over the local files of a task; ``hub`` without any."""
    if data is None:
        return "hub"
    root, state = Path(data), hashlib.sha256()
    folder = (
        root
        if root.is_file()
        else root / {"gsm8k": "gsm8k", "coqa": "coqa", "perplexity": "coqa"}.get(task, "truthfulqa")
    )
    for path in [folder] if folder.is_file() else sorted(folder.glob("*.jsonl")):
        state.update(path.name.encode() + b"\0" + path.read_bytes())
    return state.hexdigest()
