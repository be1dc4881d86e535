"""A sweep with every name looked up: systems, clusters, models, workloads. What is unknown is said here, before any work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness import figures, metrics
from harness.sweep import backends, costs, systems, workloads
from harness.sweep.source import Source, Step, parse
from harness.sweep.sweep import BackendChoice, ClusterChoice, Sweep, SystemChoice, WorkloadChoice
from harness.sweep.workloads import WorkloadSource
from thunderserve.cost.efficiency import efficiency_of
from thunderserve.spec.cluster import Cluster
from thunderserve.spec.errors import SpecError, nearest
from thunderserve.spec.gpu import Catalogue, Gpu
from thunderserve.spec.load import load_cluster, load_gpu, load_model
from thunderserve.spec.model import ModelSpec

REFERENCE_GPU = "a100-80g"


@dataclass(frozen=True)
class Resolved:
    """A sweep and the things its names stand for. It is what a worker needs to run any of its cells."""

    sweep: Sweep
    folder: Path
    """Where relative paths of the sweep file count from."""
    clusters: dict[tuple[str, Catalogue], Cluster]
    models: dict[str, ModelSpec]
    workloads: dict[str, WorkloadSource]
    """By label."""
    reference: Gpu
    """Scale 1 of an SLO is one request alone on this card, from its data sheet, whatever the cluster and catalogue."""


def resolve(source: Source) -> Resolved:
    """Check ``source`` whole and look up all it names. Raises SpecError for the first thing that is wrong."""
    sweep = parse(source)
    _check_twins(source, sweep)
    for key, known in (("metrics", metrics.names()), ("figures", figures.names())):
        _check_names(source, key, getattr(sweep, key), known)
    for index, backend in enumerate(sweep.backend):
        _check_backend(source, index, backend)
    with _at(source, "costs"):
        costs.check(sweep.costs, beside=source.folder)
    with _at(source, "codec_times"):
        costs.check_codecs(sweep.codec_times, beside=source.folder)
    for index, choice in enumerate(sweep.systems):
        _check_system(source, index, choice, sweep)
    clusters = {
        (choice.shown, catalogue): _cluster(source, sweep, index, choice, catalogue)
        for index, choice in enumerate(sweep.clusters)
        for catalogue in sweep.gpu_catalogue
    }
    reference = load_gpu(REFERENCE_GPU, "datasheet")
    models = {name: _model(source, index, name) for index, name in enumerate(sweep.models)}
    found = _workloads(source, sweep)
    _check_curves(source, sweep, reference, clusters)
    return Resolved(
        sweep=sweep,
        folder=source.folder,
        clusters=clusters,
        models=models,
        workloads=found,
        reference=reference,
    )


@contextmanager
def _at(source: Source, *path: Step) -> Iterator[None]:
    """Complaints from within are about what stands at ``path``."""
    try:
        yield
    except systems.OptionError as error:
        raise source.error(error.reason, (*path, error.option), value=error.value, remedy=error.remedy) from None
    except SpecError as error:
        raise source.relocate(error, path) from None


def _check_twins(source: Source, sweep: Sweep) -> None:
    """No entry of an axis stands there twice, under one name."""
    axes: dict[str, Sequence[object]] = {
        "systems": [choice.shown for choice in sweep.systems],
        "clusters": [choice.shown for choice in sweep.clusters],
        "backend": [choice.shown for choice in sweep.backend],
        "rate": sweep.rate if isinstance(sweep.rate, tuple) else (),
    }
    axes |= {name: getattr(sweep, name) for name in ("models", "gpu_catalogue", "seeds", "metrics", "figures")}
    for name, values in axes.items():
        for index, value in enumerate(values):
            if value in values[:index]:
                remedy = "give one of them a label" if name in ("systems", "backend") else "name it once"
                raise source.error("is there already", (name, index), value=value, remedy=remedy)


def _check_names(source: Source, key: str, given: tuple[str, ...], known: tuple[str, ...]) -> None:
    for index, name in enumerate(given):
        if name not in known:
            reason = f"unknown {key.removesuffix('s')}"
            raise source.error(reason, (key, index), value=name, remedy=nearest(name, known))


def _check_backend(source: Source, index: int, choice: BackendChoice) -> None:
    with _at(source, "backend", index):
        backends.check(choice.name, choice.options, beside=source.folder)


def _check_system(source: Source, index: int, choice: SystemChoice, sweep: Sweep) -> None:
    axes = {
        "clusters": [cluster.shown for cluster in sweep.clusters],
        "backends": [backend.shown for backend in sweep.backend],
    }
    for key, known in axes.items():
        for name in getattr(choice, key):
            if name not in known:
                path = ("systems", index, key)
                raise source.error(f"is none of the sweep's {key}", path, value=name, remedy=nearest(name, known))
    with _at(source, "systems", index):
        systems.build(choice.name, choice.options, beside=source.folder)


def _cluster(source: Source, sweep: Sweep, index: int, choice: ClusterChoice, catalogue: Catalogue) -> Cluster:
    path = ("clusters", index)
    inline = source.item("clusters", index) if isinstance(choice.spec, dict) else choice.spec
    with _at(source, *path):
        return load_cluster(inline, catalogue, sweep.market, beside=source.folder, file=source.file, at=path)


def _check_curves(source: Source, sweep: Sweep, reference: Gpu, clusters: dict[tuple[str, Catalogue], Cluster]) -> None:
    """The roofline knows the reference card, and every card of the clusters unless a profile of one's own does."""
    with _at(source, "slo"):
        efficiency_of(reference)
    for index, choice in enumerate(sweep.clusters if sweep.costs in costs.KNOWN else ()):
        with _at(source, "clusters", index):
            for gpu in clusters[choice.shown, sweep.gpu_catalogue[0]].gpus.values():
                efficiency_of(gpu)


def _model(source: Source, index: int, name: str) -> ModelSpec:
    with _at(source, "models", index):
        return load_model(name, beside=source.folder)


def _workloads(source: Source, sweep: Sweep) -> dict[str, WorkloadSource]:
    found: dict[str, WorkloadSource] = {}
    for index, choice in enumerate(sweep.workloads):
        opened = _workload(source, sweep, index, choice)
        label = choice.label or opened.workload.name
        if not label or label in found:
            reason = f"has the same name as another, {label!r}" if label else "has no name"
            raise source.error(reason, ("workloads", index), remedy="give it a label")
        _check_extent(source, sweep, label, opened)
        found[label] = opened
    return found


def _workload(source: Source, sweep: Sweep, index: int, choice: WorkloadChoice) -> WorkloadSource:
    path = ("workloads", index)
    spec = source.item("workloads", index) if isinstance(choice.spec, dict) else choice.spec
    with _at(source, *path):
        return workloads.open_workload(spec, arrivals=sweep.arrivals, beside=source.folder, file=source.file, at=path)


def _check_extent(source: Source, sweep: Sweep, label: str, opened: WorkloadSource) -> None:
    """What is drawn needs a rate and an end; a replay brings both."""
    if opened.replays:
        return
    if sweep.rate is None:
        reason = f"is missing, and {label} has no arrival times of its own"
        raise source.error(reason, ("rate",), remedy="give rate: [1, 2], or arrivals: replay for a trace with times")
    if sweep.requests is None:
        reason = f"must be a number: {label} is drawn, and has no end"
        raise source.error(reason, ("requests",), remedy="give for example requests: 1000")
