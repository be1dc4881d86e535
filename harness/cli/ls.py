"""``harness ls``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

Entry = dict[str, Any]


def ls(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="systems, clusters, gpus, models, workloads, sweeps, metrics, figures or results; default: all but results."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON on standard output.")] = False,
) -> None:
    """List what a sweep can name."""
    from harness.cli import out
    from thunderserve.spec.errors import SpecError, nearest

    if kind is not None and kind not in KINDS:
        raise SpecError("unknown kind", value=kind, remedy=nearest(kind, KINDS))
    chosen = [kind] if kind else [name for name in KINDS if name != "results"]
    found = {name: KINDS[name]() for name in chosen}
    if as_json:
        out.as_json(found[kind] if kind else found)
        return
    for name, entries in found.items():
        if kind is None:
            typer.echo(name)
        out.columns((entry["name"], entry["summary"]) for entry in entries)


def _systems() -> list[Entry]:
    from harness.cli.listing import summary
    from harness.sweep import systems

    return [
        {"name": name, "summary": summary(*_place(name)), "options": [str(item) for item in systems.options(name)]}
        for name in systems.names()
    ]


def _place(name: str) -> tuple[str, str]:
    """(package, module) of a shipped system."""
    from harness.sweep import systems

    package, _, module = systems.module_name(name).rpartition(".")
    return package, module


def _clusters() -> list[Entry]:
    from collections import Counter

    from thunderserve.spec.catalogue import names
    from thunderserve.spec.load import load_cluster

    entries = []
    for name in names("clusters"):
        cluster = load_cluster(name)
        cards = Counter(device.gpu for device in cluster.devices)
        mix = " + ".join(f"{count} x {gpu}" for gpu, count in cards.items())
        words = f"{mix} on {len(cluster.nodes)} nodes, {cluster.price_per_hour:.2f} USD/h"
        entries.append({"name": name, "summary": words, "price_per_hour": cluster.price_per_hour, "gpus": dict(cards)})
    return entries


def _gpus() -> list[Entry]:
    from thunderserve.spec.catalogue import names
    from thunderserve.spec.load import load_gpu

    entries = []
    for name in names("gpus"):
        gpu = load_gpu(name)
        words = f"{gpu.memory_bytes / 2**30:.0f} GiB, {gpu.memory_bytes_per_s / 1e9:.0f} GB/s, {gpu.flops / 1e12:.0f} TFLOP/s, "
        entries.append(
            {"name": name, "summary": words + f"{gpu.price_per_hour:g} USD/h"} | gpu.model_dump(exclude={"name"})
        )
    return entries


def _models() -> list[Entry]:
    from thunderserve.spec.catalogue import names
    from thunderserve.spec.load import load_model

    entries = []
    for name in names("models"):
        model = load_model(name)
        kv = model.kv_bytes_per_token()
        words = (
            f"{model.num_parameters / 1e9:.1f} B parameters, {model.num_layers} layers, {kv / 1e3:.0f} kB KV a token"
        )
        entries.append({"name": name, "summary": f"{words}, context {model.max_context}"})
    return entries


def _workloads() -> list[Entry]:
    from thunderserve.spec import document
    from thunderserve.spec.catalogue import find, names

    return [
        {"name": name, "summary": " ".join(str(document.read(find("workloads", name)).get("description", "")).split())}
        for name in names("workloads")
    ]


def _sweeps() -> list[Entry]:
    from thunderserve.spec import document
    from thunderserve.spec.catalogue import find, names

    return [
        {"name": name, "summary": " ".join(str(document.read(find("sweeps", name)).get("description", "")).split())}
        for name in names("sweeps")
    ]


def _metrics() -> list[Entry]:
    from harness import metrics

    found = [metrics.describe(name) for name in metrics.names()]
    return [
        {"name": item.name, "summary": f"{item.formula} [{item.unit}]", "direction": item.direction} for item in found
    ]


def _figures() -> list[Entry]:
    from harness import figures
    from harness.cli.listing import summary

    return [{"name": name, "summary": summary("harness.figures", name)} for name in figures.names()]


def _results() -> list[Entry]:
    from harness.cli.status import state_of

    entries = []
    for folder in sorted(item.parent for item in Path("results").glob("*/resolved.json")):
        state = state_of(folder)
        counts = {key: state[key] for key in ("cells", "done", "failed", "missing")}
        words = f"{counts['done']} of {counts['cells']} done, {counts['failed']} failed"
        entries.append({"name": str(folder), "summary": words} | counts)
    return entries


KINDS: dict[str, Callable[[], list[Entry]]] = {
    "systems": _systems, "clusters": _clusters, "gpus": _gpus, "models": _models, "workloads": _workloads,
    "sweeps": _sweeps, "metrics": _metrics, "figures": _figures, "results": _results,
}  # fmt: skip
