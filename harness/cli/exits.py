"""What the exit code of ``harness`` says."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Scripts may rely on these."""

    OK = 0
    FAILED_CELLS = 1
    BAD_INPUT = 2
    CHECK_FAILED = 3
    INTERRUPTED = 130
