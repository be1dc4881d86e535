"""What a search shows while it runs: one line on a terminal that is written anew, a few lines in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from harness.plan.make import Glance, Look

LINE_EVERY_S = 1.0


@contextmanager
def shown(*, quiet: bool) -> Iterator[Look]:
    """The display that suits standard error."""
    if quiet:
        yield lambda _: None
    elif sys.stderr.isatty():
        with _on_terminal() as look:
            yield look
    else:
        yield _in_log()


@contextmanager
def _on_terminal() -> Iterator[Look]:
    from rich.console import Console

    with Console(stderr=True).status("planning ...") as status:
        yield lambda glance: status.update(glance.words)


def _in_log() -> Look:
    told_s = float("-inf")

    def look(glance: Glance) -> None:
        nonlocal told_s
        if time.monotonic() - told_s >= LINE_EVERY_S:
            told_s = time.monotonic()
            sys.stderr.write(f"{time.strftime('%H:%M:%S')}  {glance.words}\n")
            sys.stderr.flush()

    return look
