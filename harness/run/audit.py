"""Is a results folder complete, untampered, and reproducible?"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from harness.run import cell as cells
from harness.run.drive import Prepared, prepare
from harness.run.world import World
from harness.store import atomic, manifest
from harness.store.layout import Store
from harness.sweep import schedule
from harness.sweep.cells import Job
from harness.sweep.source import read
from thunderserve.spec.errors import SpecError

VOLATILE = ("run.json",)
"""Files of a cell that differ between equal results."""


class Finding(NamedTuple):
    """One thing that was looked at."""

    check: str
    passed: bool
    words: str


def audit(results: Path, *, rerun: int, seed: int = 0) -> list[Finding]:
    """All checks of a results folder; ``rerun`` cells chosen by ``seed`` are run again. Raises SpecError without a run there."""
    store = Store(results)
    ids = [str(entry["id"]) for entry in store.expected()]
    findings = [_complete(store, ids), _digests(store, ids), _schedules(store), _against_manifest(store, ids)]
    return findings + list(_again(store, ids, rerun, seed))


def _complete(store: Store, ids: list[str]) -> Finding:
    missing = [cell_id for cell_id in ids if not store.cell(cell_id).is_dir()]
    failed = [cell_id for cell_id in missing if store.has_failed(cell_id)]
    if not missing:
        return Finding("complete", True, f"all {len(ids)} cells are there")
    return Finding("complete", False, f"{len(missing)} of {len(ids)} cells are not there, {len(failed)} of them failed")


def _digests(store: Store, ids: list[str]) -> Finding:
    flaws = {cell_id: store.flaw(cell_id) for cell_id in ids if store.cell(cell_id).is_dir()}
    bad = [f"{cell_id}: {flaw}" for cell_id, flaw in flaws.items() if flaw]
    return Finding("untampered cells", not bad, "; ".join(bad[:3]) or "every file is what was written")


def _schedules(store: Store) -> Finding:
    bad = schedule.flaws(store.schedules)
    return Finding("untampered schedules", not bad, "; ".join(bad[:3]) or "every schedule hashes to its name")


def _against_manifest(store: Store, ids: list[str]) -> Finding:
    try:
        noted: dict[str, str] = atomic.read_json(store.manifest)["cells"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Finding("manifest", False, f"cannot be read: {error}")
    now = manifest.cell_digests(store, ids)
    bad = [cell_id for cell_id, digest in now.items() if noted.get(cell_id) != digest]
    words = (
        f"the digests of {', '.join(bad[:3])} are not those noted"
        if bad
        else "the digests of all cells are those noted"
    )
    return Finding("manifest", not bad, words)


def _again(store: Store, ids: list[str], rerun: int, seed: int) -> Iterator[Finding]:
    """Judge every cell anew and run some again, when this checkout is the one that made them."""
    try:
        ready = _prepared(store)
    except SpecError as error:
        yield Finding("reproducible", False, f"its sweep cannot be prepared here: {error}")
        return
    jobs = {job.id: job for job in ready.jobs}
    if set(jobs) != set(ids):
        words = "this checkout, its catalogues or its input files are not those that made the results: the ids of cells differ"
        yield Finding("reproducible", False, words)
        return
    done = [job for job in ready.jobs if store.is_served(job.id)]
    world = World(ready.resolved)
    yield _judged_again(store, world, done)
    if rerun:
        chosen = random.Random(seed).sample(  # noqa: S311  no secret hangs on it
            done, min(rerun, len(done))
        )
        yield _run_again(store, world, ready, chosen)


def _prepared(store: Store) -> Prepared:
    content = atomic.read_json(store.resolved)
    try:
        beside = Path(atomic.read_json(store.manifest)["sweep_folder"])
    except (OSError, ValueError, KeyError, TypeError):
        beside = store.folder
    return prepare(read(store.folder / "sweep.yaml", content["overrides"], beside=beside), store.folder)


def _judged_again(store: Store, world: World, done: list[Job]) -> Finding:
    bad = [
        job.id
        for job in done
        if _summary_bytes(store, world, job) != (store.cell(job.id) / "summary.json").read_bytes()
    ]
    words = (
        f"{', '.join(bad[:3])} have other summaries"
        if bad
        else f"the summaries of {len(done)} cells follow from their requests"
    )
    return Finding("judged again", not bad, words)


def _summary_bytes(store: Store, world: World, job: Job) -> bytes:
    return atomic.dumps(cells.summary_of(job, world, store)).encode()


def _run_again(store: Store, world: World, ready: Prepared, chosen: list[Job]) -> Finding:
    bad: list[str] = []
    with tempfile.TemporaryDirectory(prefix="harness-check-") as name:
        fresh = Store(Path(name))
        for job in chosen:
            schedule.store(fresh.schedules, ready.schedules.traces[job.schedule.digest])
            cells.run(job, world, fresh)
            bad += [f"{job.id}/{item}" for item in _differences(store.cell(job.id), fresh.cell(job.id))]
    words = (
        f"{', '.join(bad[:3])} came out otherwise" if bad else f"{len(chosen)} cells came out byte for byte the same"
    )
    return Finding("run again", not bad, words)


def _differences(first: Path, second: Path) -> list[str]:
    names = {item.name for folder in (first, second) for item in folder.iterdir()} - set(VOLATILE)
    return sorted(name for name in names if _bytes(first / name) != _bytes(second / name))


def _bytes(path: Path) -> Any:
    return path.read_bytes() if path.is_file() else None
