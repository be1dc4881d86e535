"""Reading a sweep file, with ``key=value`` overrides, such that every complaint can say where it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.sweep.sweep import Sweep
from thunderserve.spec import document
from thunderserve.spec.catalogue import find
from thunderserve.spec.errors import SpecError

Step = str | int


@dataclass(frozen=True)
class Source:
    """The content of a sweep file after overrides, and where each part of it stands."""

    file: Path
    content: Any
    text: str
    """The file as it is, byte for byte."""
    overridden: tuple[tuple[tuple[Step, ...], str], ...] = ()
    """Key path and wording of each override."""
    beside: Path | None = None

    @property
    def folder(self) -> Path:
        """Where relative paths in the file count from: its own folder, unless it is a copy."""
        return self.beside if self.beside is not None else self.file.parent

    def item(self, key: str, index: int) -> Any:
        """Element ``index`` of the list at ``key``, with its line marks; a single thing stands for a list of one."""
        found = self.content[key]
        return found[index] if isinstance(found, list) else found

    def error(self, reason: str, path: Sequence[Step], *, value: object = None, remedy: str = "") -> SpecError:
        """A complaint about what stands at ``path``, with file and line, or with the override it came from."""
        path = tuple(path)
        key = document.dotted(path)
        for prefix, words in self.overridden:
            if path[: len(prefix)] == prefix:
                return SpecError(reason, file=f"override {words!r}", key=key, value=value, remedy=remedy)
        line = document.line_of(self.content, path)
        return SpecError(reason, file=self.file, line=line, key=key, value=value, remedy=remedy)

    def relocate(self, error: SpecError, path: Sequence[Step]) -> SpecError:
        """``error`` as a complaint about what stands at ``path`` here, unless it names a file of its own."""
        if error.file is not None:
            return error
        return self.error(error.reason, path, value=error.value, remedy=error.remedy)


def read(name: str | Path, overrides: Sequence[str] = (), *, beside: Path | None = None) -> Source:
    """Read a sweep by path, or by name from ``configs/sweeps``. ``beside``: where relative paths of a copy count from.

    Raises SpecError.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = find("sweeps", str(name))
    content = document.read(path)
    if not isinstance(content, dict):
        raise SpecError("is not a mapping of keys to values", file=path, line=1)
    text = path.read_text(encoding="utf-8")
    given = tuple((_override(content, words), words) for words in overrides)
    return Source(file=path, content=content, text=text, overridden=given, beside=beside)


def _override(content: Any, words: str) -> tuple[Step, ...]:
    """Apply one ``key.path=value`` to ``content``; the value is YAML. Returns the key path."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    key, sign, text = words.partition("=")
    where = f"override {words!r}"
    if not sign or not key:
        raise SpecError("is not of the form key=value", file=where, remedy="write for example rate=[1,2]")
    try:
        value = YAML(typ="rt").load(text)
    except YAMLError as error:
        raise SpecError(f"the value is not YAML: {str(error).splitlines()[0]}", file=where, key=key) from None
    steps = tuple(int(step) if step.isdigit() else step for step in key.replace("[", ".").replace("]", "").split("."))
    parent = content
    for step in steps[:-1]:
        if isinstance(parent, dict) and parent.get(step) is None:
            parent[step] = {}
        parent = _child(parent, step, where, key)
    if not isinstance(parent, dict):
        _child(parent, steps[-1], where, key)
    parent[steps[-1]] = value
    return steps


def _child(parent: Any, step: Step, where: str, key: str) -> Any:
    try:
        return parent[step]
    except (KeyError, IndexError, TypeError):
        reason = f"there is no {step!r} to override"
        raise SpecError(
            reason, file=where, key=key, remedy="name a key of the sweep file, as in slo.scale=[5]"
        ) from None


def parse(source: Source) -> Sweep:
    """The sweep that ``source`` says. Raises SpecError with file, line, key, value, reason and the nearest valid key."""
    try:
        return document.validate(Sweep, source.content, file=source.file)
    except SpecError as error:
        for prefix, words in source.overridden:
            start = document.dotted(prefix)
            if error.key == start or error.key.startswith((f"{start}.", f"{start}[")):
                raise SpecError(
                    error.reason, file=f"override {words!r}", key=error.key, value=error.value, remedy=error.remedy
                ) from None
        raise
