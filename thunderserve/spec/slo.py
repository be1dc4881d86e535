"""Service level objectives, absolute or as multiples of a request served alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from thunderserve.spec.noun import Noun
from thunderserve.spec.units import PositiveSeconds


class Latencies(NamedTuple):
    """TTFT, TPOT and E2E of each request of a trace, in seconds, each (N,). TPOT is NaN for one output token."""

    ttft_s: NDArray[np.float64]
    tpot_s: NDArray[np.float64]
    e2e_s: NDArray[np.float64]


class Slo(Noun):
    """Limits on TTFT, TPOT and E2E: absolute seconds, or ``scale`` times the same request alone on the reference GPU.

    Scale 1 is the latency of that very request (its own prompt and output length) with nothing else running (HexGen's
    convention; the paper's own definition is not known). With ``scale`` all three limits apply, or those in ``of``.
    """

    scale: float | None = Field(default=None, gt=0)
    of: tuple[str, ...] = ("ttft", "tpot", "e2e")
    ttft_s: PositiveSeconds | None = None
    tpot_s: PositiveSeconds | None = None
    e2e_s: PositiveSeconds | None = None

    @model_validator(mode="after")
    def _is_one_kind(self) -> Slo:
        absolute = any(limit is not None for limit in (self.ttft_s, self.tpot_s, self.e2e_s))
        if absolute == (self.scale is not None):
            raise ValueError("give either scale, or at least one of ttft, tpot and e2e")
        if unknown := set(self.of) - {"ttft", "tpot", "e2e"}:
            raise ValueError(f"'of' names {sorted(unknown)}; choose from ttft, tpot, e2e")
        return self

    def scaled(self, factor: float) -> Slo:
        """The same objective with every limit multiplied."""
        limits = {name: getattr(self, name) for name in ("scale", "ttft_s", "tpot_s", "e2e_s")}
        return Slo.model_validate({k: v * factor for k, v in limits.items() if v is not None} | {"of": self.of})

    def limits(self, alone: Latencies) -> Latencies:
        """The limit of each request; infinite where there is none. Absolute limits ignore ``alone``."""
        count = len(alone.ttft_s)
        if self.scale is None:
            given = (self.ttft_s, self.tpot_s, self.e2e_s)
            return Latencies(*(np.full(count, np.inf if limit is None else limit) for limit in given))
        return Latencies(
            *(
                values * self.scale if name in self.of else np.full(count, np.inf)
                for name, values in zip(("ttft", "tpot", "e2e"), alone, strict=True)
            )
        )
