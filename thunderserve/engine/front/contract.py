"""What the front asks of whatever serves: the coordinator with its workers, or anything else that gives tokens."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Any, Protocol

from thunderserve.engine.messages import Sampling, Token


class Unavailable(Exception):  # noqa: N818  a state of the service, not a mistake
    """No worker can take it now (503): the message says why."""


class TooLong(Exception):  # noqa: N818  a property of the request
    """It can never be served (400)."""


class Engine(Protocol):
    """Serves requests of token ids, as many at a time as it likes. All of it runs in one event loop and never blocks it."""

    model: str
    """Its name, as clients give it."""
    max_context: int
    """Tokens of prompt and answer together, at most."""

    def generate(
        self, prompt: Sequence[int], sampling: Sampling, *, number: int | None = None
    ) -> AsyncGenerator[Token, None]:
        """Tokens as they come; the last has a reason. Closing the generator cancels the request.

        ``number``: place of the request in a stored trace, where it has one.

        Raises:
            Unavailable: no worker can take it, or go on with it.
            TooLong: it can never be served.
        """
        ...

    def health(self) -> Mapping[str, Any]:
        """``{"status": "ok" | "degraded" | "down", "workers": [...]}``."""
        ...

    def metrics(self) -> Iterable[tuple[str, str, str, Mapping[str, str], float]]:
        """Samples as (name, help, type, labels, value)."""
        ...
