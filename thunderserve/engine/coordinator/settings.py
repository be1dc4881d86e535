"""How patient the coordinator is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Seconds and counts. Refuses what could never work."""

    silence_s: float = 10.0
    """A worker that has said nothing for so long is taken for dead. It beats twice a second."""
    patience_s: float = 5.0
    """A request for which there is no worker waits so long for one to come, or to come back."""
    again_s: float = 0.05
    """Before the second attempt after a worker said that it will not finish a request; twice as long before the third."""
    failures: int = 3
    """Attempts in which a worker said so: after that, the request is given up."""
    losses: int = 5
    """Attempts over which a worker died: after that, too, as the request itself may be what kills them."""
    kept: int = 10_000
    """Records of requests without a number that are remembered."""

    def __post_init__(self) -> None:
        if (
            min(self.silence_s, self.patience_s, self.again_s) < 0
            or min(self.failures, self.losses) < 1
            or self.kept < 0
        ):
            raise ValueError(f"times and counts are positive: {self}")
