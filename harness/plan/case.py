"""A setting with every name looked up: a problem for a planner, and requests it has not seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from harness.plan.file import Setting
from harness.sweep import costs
from harness.sweep.resolve import REFERENCE_GPU
from harness.sweep.workloads import WorkloadSource, open_workload
from thunderserve.cost.source import CostSource
from thunderserve.policy import Problem
from thunderserve.spec import document
from thunderserve.spec.cluster import Cluster
from thunderserve.spec.errors import SpecError
from thunderserve.spec.load import load_cluster, load_gpu, load_model
from thunderserve.spec.model import ModelSpec
from thunderserve.spec.slo import Latencies
from thunderserve.spec.trace import Trace

NEEDED = {"cluster": "cloud-32", "model": "llama-30b", "workload": "azure-code", "rate_per_s": "4"}
"""What must be known, with an example each."""


@dataclass(frozen=True)
class Case:
    """Where a plan is judged: everything that a ``Setting`` names."""

    setting: Setting
    cluster: Cluster
    model: ModelSpec
    workload: WorkloadSource
    rate_per_s: float
    costs: CostSource

    @cached_property
    def _alone(self) -> Any:
        from thunderserve.cost.alone import alone_on

        return alone_on(self.model, load_gpu(REFERENCE_GPU, "datasheet"), costs.build("roofline"))

    def alone(self, trace: Trace) -> Latencies:
        """Latencies of each request alone on the reference GPU."""
        found: Latencies = self._alone(trace)
        return found

    def sample(self, requests: int, rate_per_s: float, seed: int) -> Trace:
        """Requests for a planner: never those of ``trace``."""
        return self.workload.sample(requests, rate_per_s, seed, max_context=self.model.max_context)

    def trace(self, requests: int, seed: int) -> Trace:
        """Requests to judge a plan on."""
        return self.workload.trace(requests, self.rate_per_s, seed, max_context=self.model.max_context)

    def problem(self, seed: int = 0) -> Problem:
        """What a planner is told."""
        return Problem(
            cluster=self.cluster,
            model=self.model,
            rate_per_s=self.rate_per_s,
            slo=self.setting.slo,
            sample=self.sample,
            alone=self.alone,
            costs=self.costs,
            seed=seed,
        )


S = TypeVar("S", bound=Setting)


def overridden(setting: S, given: Mapping[str, Any]) -> S:
    """The same setting with what the command line gives (None: nothing). Raises SpecError for what is wrong with it."""
    named = {name: value for name, value in given.items() if value is not None}
    content = setting.model_dump(mode="json", exclude_none=True) | named
    return document.validate(type(setting), content, file="command line")


def open_case(setting: Setting, file: Path) -> Case:
    """Look up all names; relative paths also count from ``file``'s folder. Raises SpecError."""
    given: dict[str, Any] = {name: getattr(setting, name) for name in NEEDED}
    for name, example in NEEDED.items():
        if given[name] is None:
            option = name.removesuffix("_per_s")
            raise SpecError(f"no {option} is given", remedy=f"say for example --{option} {example}")
    folder = file.parent
    cluster = load_cluster(given["cluster"], setting.catalogue, setting.market, beside=folder, file=file)
    model = load_model(given["model"], beside=folder)
    workload = open_workload(given["workload"], arrivals=None, beside=folder, file=file, at=("workload",))
    source = costs.build(setting.costs, setting.codec_times, beside=folder)
    return Case(setting, cluster, model, workload, given["rate_per_s"], source)
