"""Folders of the cache that are there whole or not at all, however many processes make them at once."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def placed(target: Path, marker: str) -> Iterator[Path]:
    """Where to make the folder ``target``: a path in a scratch folder of its own, renamed when the block ends well.

    Whoever comes second throws away what it made: it is the same. A ``target`` without the file ``marker`` is no whole one, and
    is replaced. The scratch folder, ``.parent`` of the path, goes in any case.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
        made = Path(scratch) / "made"
        yield made
        try:
            made.rename(target)
        except OSError:
            if not (target / marker).is_file():
                shutil.rmtree(target)
                made.rename(target)
