"""What the tests of a small accuracy study hand to one another."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

Begin = Callable[..., "subprocess.Popen[str]"]


class Small(NamedTuple):
    """Paths of the study file and of its questions."""

    study: Path
    data: Path


class Finished(NamedTuple):
    """A run that nothing disturbed: its folder, and what it printed."""

    folder: Path
    printed: str
