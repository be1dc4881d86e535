"""Steps written down, read again, and held against a cost model."""

from __future__ import annotations

from pathlib import Path

from thunderserve.cost.evaluate import Shape
from thunderserve.engine.steplog import StepLog, Stepped, read_steps

STEPS = [
    Stepped(1.5, 0.25, Shape(3, 120, (), 3)),
    Stepped(2.5, 0.5, Shape(0, 0, ((16, 0), (7, 32)), 1)),
]


def test_what_was_noted_is_read_again(tmp_path: Path) -> None:
    first = StepLog(tmp_path / "steps")
    first.note(STEPS[0])
    assert read_steps(tmp_path / "steps") == STEPS[:1]  # at once: a worker may be killed
    first.close()
    again = StepLog(tmp_path / "steps")  # as a worker that was started again
    again.note(STEPS[1])
    again.close()
    assert read_steps(tmp_path / "steps") == STEPS


def test_a_worker_that_wrote_nothing_had_no_steps(tmp_path: Path) -> None:
    assert read_steps(tmp_path / "steps") == []
