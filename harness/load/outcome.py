"""What came back for each request, and when."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from harness.load.asks import Ask


@dataclass
class Outcome:
    """One request as its exchange goes on; nobody changes it afterwards. Times are seconds from the start of the run."""

    intended_s: float
    sent_s: float | None = None
    """When it was given to the network, before any connection was made; None: never."""
    token_s: list[float] = field(default_factory=list)
    """Of each output token, the arrival of the bytes that completed its event."""
    finish_s: float | None = None
    """The last token of a whole answer; None for any other."""
    status: int | None = None
    """Of HTTP; None: no answer."""
    prompt_tokens: int | None = None
    """As the server counts them, if it does."""
    output_tokens: int | None = None
    error: str = ""
    """Why it is not whole, in words."""

    @property
    def slip_s(self) -> float | None:
        """How late it was sent: the load generator's own fault, never the server's."""
        return None if self.sent_s is None else self.sent_s - self.intended_s

    @property
    def tokens(self) -> int:
        """Output tokens: as the server counts them, else the events seen."""
        return len(self.token_s) if self.output_tokens is None else self.output_tokens


class LoadResult(NamedTuple):
    """A run."""

    asks: tuple[Ask, ...]
    outcomes: tuple[Outcome, ...]
    """In the order of the requests."""
    started_s: float
    """Seconds since the epoch at time 0 of the run."""
    interrupted: bool
