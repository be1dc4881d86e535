"""A request from its arrival to its end, as the coordinator sees it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from thunderserve.engine.coordinator.attempt import Attempt
from thunderserve.engine.coordinator.history import Record
from thunderserve.engine.coordinator.routing import Need
from thunderserve.engine.messages import Sampling, Token
from thunderserve.spec.plan import Flow


@dataclass(eq=False)
class Request:
    """What was asked, what was told, and who is at it."""

    id: int
    prompt: tuple[int, ...]
    sampling: Sampling
    record: Record
    told: list[int] = field(default_factory=list)
    """All tokens that the client has, or will read next."""
    outbox: asyncio.Queue[Token | Exception] = field(default_factory=asyncio.Queue)
    attempt: Attempt | None = None
    """The one that runs."""
    failures: int = 0
    """How often a worker said that it will not finish it."""
    losses: int = 0
    """How often a worker died over it."""
    avoid: set[Flow] = field(default_factory=set)
    """Flows on which it failed."""
    timer: asyncio.TimerHandle | None = None
    """Ends its wait: for another try, or for a worker to come."""
    ended: bool = False
    """Its last token was told, or it was given up."""

    @property
    def need(self) -> Need:
        """What is still to be done."""
        return Need(len(self.prompt) + len(self.told), self.sampling.max_tokens - len(self.told))

    def stop_timer(self) -> None:
        """It does not wait any more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
