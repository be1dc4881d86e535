"""The one error a user of a configuration file meets: where, what, why, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class SpecError(ValueError):
    """A configuration that cannot be used.

    The message reads ``file:line: key.path: reason (got value); remedy``, with the parts that are known.
    """

    def __init__(
        self,
        reason: str,
        *,
        file: Path | str | None = None,
        line: int | None = None,
        key: str = "",
        value: object = None,
        remedy: str = "",
    ) -> None:
        self.reason, self.file, self.line, self.key, self.value, self.remedy = reason, file, line, key, value, remedy
        super().__init__(self._message())

    def _message(self) -> str:
        where = str(self.file) if self.file is not None else ""
        if where and self.line is not None:
            where += f":{self.line}"
        parts = [part for part in (where, self.key, self.reason) if part]
        text = ": ".join(parts)
        if self.value is not None:
            text += f" (got {self.value!r})"
        return f"{text}; {self.remedy}" if self.remedy else text

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the parts when the error crosses a process boundary."""
        return (_rebuild, (self.reason, self.file, self.line, self.key, self.value, self.remedy))


def _rebuild(reason: str, file: Path | str | None, line: int | None, key: str, value: object, remedy: str) -> SpecError:
    return SpecError(reason, file=file, line=line, key=key, value=value, remedy=remedy)


def nearest(word: str, known: Iterable[str]) -> str:
    """``did you mean 'x'?``, or the list of what is known when nothing is near."""
    names = sorted(known)
    folded = {name.lower(): name for name in names}
    match = difflib.get_close_matches(word.lower(), list(folded), n=1, cutoff=0.5)
    if match:
        return f"did you mean {folded[match[0]]!r}?"
    return "known: " + ", ".join(names) if names else ""
