"""Progress reads well in a log file."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from harness.run import progress
from harness.run.progress import Lines, Tally, duration, picture


def test_the_counts_in_words() -> None:
    tally = Tally(48, found=4, done=8, failed=1, running=["a", "b"])
    tally.started_s -= 4.5
    words = tally.words()
    assert words.startswith("12/48 done (4 found), 2 running, 1 failed, 2 cells/s, about 1")
    assert words.endswith("s left")
    assert Tally(5).words() == "0/5 done, 0 running, 0 failed, 0 cells/s, time left unknown"
    assert Tally(5, found=5).words().endswith("nothing left")


def test_cells_that_take_longer_count_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress.time, "monotonic", lambda: 90.0)
    half_way = Tally(
        36, done=18, work=100.0, worked=90.0, started_s=0.0
    )  # real cells first, then the same ones simulated
    assert half_way.left_words == "about 10 s left"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.42, "0.4 s"), (42, "42 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (0, "0.0 s")]
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_log_has_few_lines_and_the_last_state(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    lines = Lines(stream)
    tally = Tally(1000)
    for _ in range(1000):
        now[0] += 0.01
        tally.done += 1
        lines.update(tally)
        lines.update(tally)
    told = stream.getvalue().splitlines()
    assert len(told) == 6  # at once, every two seconds of ten, and at the end
    assert "1000/1000 done" in told[-1]
    assert all("\r" not in line and "\x1b" not in line for line in told)


def test_a_failure_is_told_at_once() -> None:
    stream = io.StringIO()
    Lines(stream).say("failed: serve x: why")
    assert stream.getvalue().endswith("  failed: serve x: why\n")


def test_a_terminal_sees_bar_counts_and_cells_below_each_other() -> None:
    stream = io.StringIO()
    running = [f"serve distserve[affinity=low] cell {i}" for i in range(9)]
    Console(file=stream, width=80, color_system=None).print(picture(Tally(10, done=5, running=running)))
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    assert "5/10 done, 9 running, 0 failed" in lines[1]
    assert lines[-4:] == [f"  {words}" for words in running[:4]]
