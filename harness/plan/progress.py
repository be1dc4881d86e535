"""What a search shows while it runs: one line on a terminal that is written anew, a few lines in a log file."""

from __future__ import annotations

from contextlib import AbstractContextManager

from harness.plan.make import Look
from harness.run.progress import one_line

LINE_EVERY_S = 1.0


def shown(*, quiet: bool) -> AbstractContextManager[Look]:
    """The display that suits standard error."""
    return one_line(lambda glance: glance.words, quiet=quiet, before="planning ...", every_s=LINE_EVERY_S)
