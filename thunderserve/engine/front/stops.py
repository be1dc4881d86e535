"""Texts that end an answer, found across the borders of tokens."""

from __future__ import annotations

from collections.abc import Sequence


class Stops:
    """Lets text through up to the first stop text.

    The one that is complete first counts, and of several that end together the longest; so it does not matter in which pieces
    the text comes.

    Args:
        stops: none of them empty.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.found = False
        """A stop text has come: nothing more is let through."""

    def feed(self, text: str) -> str:
        """What can be told: all but what may be the beginning of a stop text."""
        if self.found:
            return ""
        seen = self._held + text
        places = [(at + len(stop), at) for stop in self._stops if (at := seen.find(stop)) >= 0]
        if places:
            self.found, self._held = True, ""
            return seen[: min(places)[1]]
        kept = max((_overlap(seen, stop) for stop in self._stops), default=0)
        self._held = seen[len(seen) - kept :]
        return seen[: len(seen) - kept]

    def finish(self) -> str:
        """What was held back, when no more comes."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that ``stop`` begins with."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)
