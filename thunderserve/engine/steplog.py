"""What a worker computed and how long it took, one line a step: so that steps alone can be held against a cost model."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from thunderserve.cost.evaluate import Shape, batch_s, step_latency_s
from thunderserve.cost.step_table import StepTable

PREFILL, DECODE = KINDS = ("prefill", "decode")
"""Of steps: with tokens of a prompt, and without."""


class Stepped(NamedTuple):
    """One step."""

    end_s: float
    """Seconds since the epoch."""
    seconds: float
    shape: Shape


class StepLog:
    """A file that grows by a line a step; each line is whole even if the worker is killed.

    Args:
        path: lines are added where it exists, as when a worker was started again.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1, encoding="utf-8")

    def note(self, stepped: Stepped) -> None:
        """Add one."""
        self._file.write(json.dumps([stepped.end_s, stepped.seconds, *stepped.shape]) + "\n")

    def close(self) -> None:
        """No more will come."""
        self._file.close()


def read_steps(path: Path) -> list[Stepped]:
    """All steps of a worker; none where there is no file."""
    if not path.is_file():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        end_s, seconds, decodes, keys, chunks, sampled = json.loads(line)
        shape = Shape(decodes, keys, tuple((new, past) for new, past in chunks), sampled)
        found.append(Stepped(end_s, seconds, shape))
    return found


def by_kind(steps: Iterable[Stepped]) -> dict[str, list[Stepped]]:
    """Those of each of ``KINDS``."""
    found: dict[str, list[Stepped]] = {kind: [] for kind in KINDS}
    for step in steps:
        found[PREFILL if step.shape.chunks else DECODE].append(step)
    return found


def expected_s(table: StepTable, steps: Iterable[Stepped]) -> float:
    """Seconds that the cost model says for the same steps, one after the other."""
    total = 0.0
    for _, _, shape in steps:
        total += float(step_latency_s(table, batch_s(table, shape)[:, None], np.array([shape.tokens]))[0])
    return total
