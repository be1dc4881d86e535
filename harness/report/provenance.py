"""What was simulated and how far that is from measurements; and from what, by what and when the results were made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.report.markup import tag
from harness.sweep.backends import SIMULATED

if TYPE_CHECKING:
    from harness.result import SweepResult

WORDS = (
    "Simulated: the batcher, router and KV accounting are the code that a real engine drives, on a clock that is advanced by "
    "an event-driven simulator; step and transfer times come from a cost model. No GPU was used and no token was generated. "
    "Simulated points are hollow in every figure, measured ones filled."
)
MEASURED = "Measured on the hardware named: times are those of a real engine."
FIDELITY = (
    "The cost model is a roofline by operator whose constants were fitted on public measurements of the cards below; "
    "'harness bench cost' prints its error against them by GPU, model and operator, for fitted and held-out data apart. "
    "A difference between systems that is smaller than that error deserves a measurement."
)


def statement(result: SweepResult) -> str:
    """What is simulated, and on what measurements the cost model of the GPUs of this sweep rests."""
    backends = {cell.axes.backend for cell in result.cells}
    parts = [tag("p", WORDS if name == SIMULATED else f"{name}: {MEASURED}") for name in sorted(backends)]
    if SIMULATED in backends:
        sources = _sources(result.folder)
        listed = "".join(f"<li>{tag('b', gpu)}: {tag('span', source)}</li>" for gpu, source in sources.items())
        parts += [tag("p", FIDELITY), f"<ul>{listed}</ul>" if listed else ""]
    return "".join(parts)


def _sources(folder: Path) -> dict[str, str]:
    """GPU -> what its efficiency curves were fitted on, for the GPUs of the sweep; empty where that is not on disk."""
    from thunderserve.cost.efficiency import efficiency_of
    from thunderserve.spec.cluster import Cluster

    try:
        clusters = json.loads((folder / "resolved.json").read_text(encoding="utf-8"))["clusters"].values()
        gpus = {name: gpu for item in clusters for name, gpu in Cluster.model_validate(item).gpus.items()}
        return {name: " ".join(efficiency_of(gpu).source.split()) for name, gpu in sorted(gpus.items())}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def provenance(result: SweepResult) -> str:
    """The manifest: the few things a reader asks for first, then all of it."""
    code: dict[str, Any] = result.manifest.get("code") or {}
    commit = str(code.get("commit", result.cells[0].commit if result.cells else "unknown"))
    changed = f"{commit}, with uncommitted changes {code['dirty']}" if code.get("dirty") else commit
    facts = {
        "commit": changed,
        "command": " ".join(map(str, result.manifest.get("argv", []))),
        "written": str(result.manifest.get("written_at", "")),
        "prices of": str(result.manifest.get("price_date", "")),
        "seeds": ", ".join(str(seed) for seed in sorted({cell.axes.seed for cell in result.cells})),
        "cells": f"{len(result.cells)} finished, {len(result.failed)} failed",
    }
    rows = "".join(f"<tr>{tag('th', name, scope='row')}{tag('td', text)}</tr>" for name, text in facts.items() if text)
    whole = tag("pre", json.dumps(result.manifest, indent=1, default=str))
    failed = "".join(
        f"<details><summary>failed {tag('span', f'{f.id}: {f.error}')}</summary>{tag('pre', f.traceback)}</details>"
        for f in result.failed
    )
    table = f'<table class="facts"><tbody>{rows}</tbody></table>'
    return f"{table}{failed}<details><summary>The whole manifest</summary>{whole}</details>"


def warnings(result: SweepResult) -> str:
    """What the run and its cells warned of, each once with its count."""
    found: dict[str, int] = {}
    for cell in result.cells:
        for words in cell.warnings:
            found[words] = found.get(words, 0) + 1
    lines = [f"{words} ({count} cells)" for words, count in found.items()]
    lines += [str(words) for words in result.manifest.get("warnings", []) if str(words) not in lines]
    return f"<h3>Warnings</h3><ul>{''.join(tag('li', line) for line in lines)}</ul>" if lines else ""
