"""How far a run is: a live display on a terminal, plain lines in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TextIO, TypeVar

if TYPE_CHECKING:
    from rich.live import Live as Display
    from rich.table import Table

T = TypeVar("T")
LINE_EVERY_S = 2.0
"""In a log, the state is told at most this often; failures always."""

SHOWN = 4
"""Cells in hand that a terminal shows."""


@dataclass
class Tally:
    """Counts of a run."""

    total: int
    """Cells of the sweep."""
    found: int = 0
    """Done before this run."""
    done: int = 0
    """Done by this run."""
    failed: int = 0
    plans: int = 0
    """Plans to make before cells can be served."""
    planned: int = 0
    running: Sequence[str] = ()
    """What is in hand, in words."""
    work: float = 0.0
    """Of the cells to do, in any unit, where one may take a thousand times as long as another; 0: all are alike."""
    worked: float = 0.0
    """Of it, done or failed."""
    started_s: float = field(default_factory=time.monotonic)

    @property
    def per_s(self) -> float:
        """Cells a second, since the start."""
        passed = time.monotonic() - self.started_s
        return (self.done + self.failed) / passed if passed > 0 else 0.0

    @property
    def left(self) -> int:
        """Cells still to do."""
        return self.total - self.found - self.done - self.failed

    @property
    def left_words(self) -> str:
        """``about 2 min left``, once that can be told."""
        if self.left == 0:
            return "nothing left"
        passed_s = time.monotonic() - self.started_s
        worked, rest = (self.worked, self.work - self.worked) if self.work else (self.done + self.failed, self.left)
        return f"about {duration(passed_s * rest / worked)} left" if worked > 0 else "time left unknown"

    def words(self) -> str:
        """``12/48 done (4 found), 2 running, 0 failed, 3.1 cells/s, about 12 s left``."""
        found = f" ({self.found} found)" if self.found else ""
        plans = f", {self.planned}/{self.plans} plans" if self.planned < self.plans else ""
        return (
            f"{self.found + self.done}/{self.total} done{found}{plans}, {len(self.running)} running, {self.failed} failed, "
            f"{self.per_s:.2g} cells/s, {self.left_words}"
        )


def duration(seconds: float) -> str:
    """``0.4 s``, ``12 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"


class Progress(Protocol):
    """Watches a run; it decides nothing."""

    def update(self, tally: Tally) -> None:
        """The counts, whenever they change or some time has passed."""

    def say(self, words: str) -> None:
        """A line worth keeping."""

    def close(self) -> None:
        """No more will come."""


class Lines:
    """Plain lines with the time of day, for log files and pipes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._told_s, self._told = stream, float("-inf"), ""

    def update(self, tally: Tally) -> None:
        """A line when the counts have changed, at most every ``LINE_EVERY_S`` seconds, and at the end."""
        state = f"{tally.done} {tally.failed} {tally.planned}"
        due = time.monotonic() - self._told_s >= LINE_EVERY_S
        if state != self._told and (due or tally.left == 0):
            self._told_s, self._told = time.monotonic(), state
            self.say(tally.words())

    def say(self, words: str) -> None:
        """A line, at once."""
        self._stream.write(f"{time.strftime('%H:%M:%S')}  {words}\n")
        self._stream.flush()

    def close(self) -> None:
        """Nothing is held."""


class Live:
    """A bar with counts, and below it what is being worked on, on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live as Display

        self._display: Display = Display(console=Console(stderr=True), refresh_per_second=4, transient=True)
        self._display.start()

    def update(self, tally: Tally) -> None:
        """Redraw."""
        self._display.update(picture(tally))

    def say(self, words: str) -> None:
        """A line above the bar."""
        self._display.console.print(words, markup=False, highlight=False)

    def close(self) -> None:
        """Take the bar away."""
        self._display.stop()


def picture(tally: Tally) -> Table:
    """The bar, the counts, and what is in hand, below each other."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    rows = Table.grid()
    rows.add_row(ProgressBar(tally.total, tally.total - tally.left, width=60))
    rows.add_row(Text(tally.words()))
    for words in tally.running[:SHOWN]:
        rows.add_row(Text(f"  {words}", "dim", no_wrap=True, overflow="ellipsis"))
    return rows


class Silent:
    """Says nothing."""

    def update(self, tally: Tally) -> None:
        """Nothing."""

    def say(self, words: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def watch(*, quiet: bool = False) -> Progress:
    """The display that suits standard error: live on a terminal, lines elsewhere, nothing when ``quiet``."""
    if quiet:
        return Silent()
    return Live() if sys.stderr.isatty() else Lines(sys.stderr)


@contextmanager
def one_line(words: Callable[[T], str], *, quiet: bool, before: str, every_s: float) -> Iterator[Callable[[T], None]]:
    """What is shown of something long on standard error: one line written anew on a terminal, lines in a log file.

    Args:
        words: for a glance at it.
        quiet: show nothing.
        before: the first glance.
        every_s: seconds between two lines of a log, at least.
    """
    if quiet:
        yield lambda _: None
    elif sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True).status(before) as status:
            yield lambda glance: status.update(words(glance))
    else:
        yield _in_log(words, every_s)


def _in_log(words: Callable[[T], str], every_s: float) -> Callable[[T], None]:
    told_s = float("-inf")

    def look(glance: T) -> None:
        nonlocal told_s
        if time.monotonic() - told_s >= every_s:
            told_s = time.monotonic()
            sys.stderr.write(f"{time.strftime('%H:%M:%S')}  {words(glance)}\n")
            sys.stderr.flush()

    return look
