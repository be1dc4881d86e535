"""All that cells share in one process: cost sources, references, backends. Built when first needed, and kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.sweep import backends, costs, systems
from harness.sweep.cells import Cell
from harness.sweep.resolve import Resolved
from harness.sweep.workloads import WorkloadSource
from thunderserve.spec.cluster import Cluster
from thunderserve.spec.model import ModelSpec

if TYPE_CHECKING:
    from harness.run.serve import Outcome
    from thunderserve.backend import Backend
    from thunderserve.cost.alone import Alone
    from thunderserve.cost.source import CostSource
    from thunderserve.policy import Policy


@dataclass
class World:
    """A resolved sweep with its costly parts warm."""

    resolved: Resolved
    probes: dict[tuple[str, str], Outcome] = field(default_factory=dict)
    """Of capacity searches: (plan key, trace digest) -> what was served."""
    _costs: CostSource | None = None
    _alone: dict[str, Alone] = field(default_factory=dict)
    _backends: dict[str, Backend] = field(default_factory=dict)

    def cluster(self, cell: Cell) -> Cluster:
        """The cluster of a cell, in the cell's catalogue."""
        return self.resolved.clusters[cell.cluster, cell.catalogue]

    def model(self, cell: Cell) -> ModelSpec:
        """The model of a cell."""
        return self.resolved.models[cell.model]

    def source(self, cell: Cell) -> WorkloadSource:
        """Where the requests of a cell are drawn from."""
        return self.resolved.workloads[cell.workload]

    def max_context(self, cell: Cell) -> int | None:
        """Longest prompt plus output of a schedule; None for no limit."""
        return self.model(cell).max_context if self.resolved.sweep.model_context == "drop" else None

    def costs(self) -> CostSource:
        """Where step times come from."""
        if self._costs is None:
            sweep = self.resolved.sweep
            self._costs = costs.build(sweep.costs, sweep.codec_times, beside=self.resolved.folder)
        return self._costs

    def alone(self, cell: Cell) -> Alone:
        """Latencies of a request of the cell's model alone on the reference GPU, by the roofline whatever the cost source."""
        if cell.model not in self._alone:
            from thunderserve.cost.alone import alone_on

            self._alone[cell.model] = alone_on(self.model(cell), self.resolved.reference, costs.build("roofline"))
        return self._alone[cell.model]

    def backend(self, cell: Cell) -> Backend:
        """The backend of a cell."""
        choice = cell.backend
        if choice.shown not in self._backends:
            folder = self.resolved.folder
            self._backends[choice.shown] = backends.connect(choice.name, self.costs(), choice.options, beside=folder)
        return self._backends[choice.shown]

    def policy(self, cell: Cell) -> Policy:
        """The system of a cell, with its options."""
        return systems.build(cell.system.name, cell.system.options, beside=self.resolved.folder)
