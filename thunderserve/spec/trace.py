"""Requests as arrays: what a backend replays, the same for every system."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Trace:
    """N requests in order of arrival.

    ``arrival_s`` (N,) float64 seconds from the start, ascending; ``prompt_tokens`` and ``output_tokens`` (N,) int64, at
    least 1. ``dropped`` counts, by reason, what a filter took out of the source. Raises ValueError for anything else.
    """

    arrival_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    dropped: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, dtype in (("arrival_s", np.float64), ("prompt_tokens", np.int64), ("output_tokens", np.int64)):
            array = np.ascontiguousarray(getattr(self, name), dtype=dtype)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        lengths = {len(self.arrival_s), len(self.prompt_tokens), len(self.output_tokens)}
        if len(lengths) != 1:
            raise ValueError(f"a trace needs as many arrivals as prompts and outputs, not {sorted(lengths)}")
        if len(self) and not (np.isfinite(self.arrival_s).all() and self.arrival_s[0] >= 0):
            raise ValueError("arrivals must be finite and not before 0")
        if (np.diff(self.arrival_s) < 0).any():
            raise ValueError("arrivals must ascend")
        if len(self) and min(self.prompt_tokens.min(), self.output_tokens.min()) < 1:
            raise ValueError("every request needs at least one prompt and one output token")

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def digest(self) -> str:
        """SHA-256 of the requests, equal on any machine: the identity of a workload."""
        state = hashlib.sha256(b"thunderserve-trace-1")
        for array, kind in ((self.arrival_s, "<f8"), (self.prompt_tokens, "<i8"), (self.output_tokens, "<i8")):
            state.update(array.astype(kind).tobytes())
        return state.hexdigest()

    @property
    def offered_rate_per_s(self) -> float:
        """Requests a second over the window from 0 to the last arrival; 0 for fewer than two requests."""
        return len(self) / float(self.arrival_s[-1]) if len(self) > 1 and self.arrival_s[-1] > 0 else 0.0
