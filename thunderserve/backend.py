"""The second seam: what carries a plan out. Simulated and real differ only behind this page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from thunderserve.serving.records import Served
from thunderserve.spec.cluster import Cluster
from thunderserve.spec.model import ModelSpec
from thunderserve.spec.plan import Plan
from thunderserve.spec.trace import Trace


@dataclass(frozen=True)
class Deployment:
    """A plan together with what it was made for."""

    plan: Plan
    cluster: Cluster
    model: ModelSpec


class Backend(Protocol):
    """Serves a trace under a plan and returns one record a request.

    Every request offered comes back, in the trace's order, with a status; the backend drains, it never truncates.
    """

    @property
    def name(self) -> str:
        """As a sweep names it, e.g. ``simulated``."""

    def serve(self, deployment: Deployment, trace: Trace, *, series: bool = False) -> Served:
        """Replay ``trace``. Raises ValueError for a plan that cannot run, naming the device and what it lacks."""
