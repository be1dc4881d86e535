"""Runs a study: units in worker processes, journals while they run, a folder renamed into place for each finished cell."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

from harness.accuracy import journal, keep, worker
from harness.accuracy.study import Opened
from harness.accuracy.units import Unit, expand
from harness.run.progress import Progress, Tally
from harness.store import atomic, manifest
from thunderserve.spec.errors import SpecError

TICK_S = 1.0
"""How often the journals are looked at."""


@dataclass
class Done:
    """What a run came to."""

    folder: Path
    units: list[Unit]
    errors: dict[str, str] = field(default_factory=dict)
    """Unit -> what went wrong."""
    found: int = 0
    """Cells that were there before."""
    interrupted: bool = False


def drive(opened: Opened, folder: Path, progress: Progress, *, workers: int | None = None) -> Done:
    """Measure what is missing of a study. Raises BusyError when another run writes to ``folder``."""
    units = expand(opened)
    done = Done(folder, units)
    with atomic.lock(folder):
        (folder / "journals").mkdir(parents=True, exist_ok=True)
        atomic.sweep_up(folder / "cells")
        atomic.write_text(folder / "study.yaml", opened.text)
        missing = [unit for unit in units if not keep.is_finished(folder, unit)]
        done.found = sum(len(unit.codecs) for unit in units if unit not in missing)
        tally = Tally(total=sum(len(unit.codecs) for unit in units), found=done.found)
        try:
            _run(
                missing,
                opened,
                done,
                tally,
                progress,
                workers or max(manifest.usable_cores() // opened.study.threads, 1),
            )
        except KeyboardInterrupt:
            done.interrupted = True
        finally:
            progress.close()
        keep.write_manifest(folder, opened, units)
    return done


def _run(missing: Sequence[Unit], opened: Opened, done: Done, tally: Tally, progress: Progress, workers: int) -> None:
    errors = [model for model in opened.study.models if not keep.kv_error_of(done.folder, model).is_file()]
    if not missing and not errors:
        return
    _fetch_models(missing, opened, progress)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(opened.study.threads)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    pool = ProcessPoolExecutor(
        min(workers, len(missing) + len(errors)), mp_context=get_context("spawn"), max_tasks_per_child=1
    )
    try:
        futures = {
            pool.submit(worker.run, unit, opened.study, opened.data, keep.journal_of(done.folder, unit)): unit
            for unit in _longest_first(missing)
        }
        open_: set[Future[worker.Outcome]] = set(futures)
        beside = [
            pool.submit(worker.kv_errors, model, opened.study, opened.data, keep.kv_error_of(done.folder, model))
            for model in errors
        ]
        while open_:
            ended, open_ = wait(open_, timeout=TICK_S, return_when=FIRST_COMPLETED)
            for future in ended:
                _take(futures[future], future, done, tally)
            tally.running = [_state(done.folder, futures[one]) for one in open_ if one.running()]
            progress.update(tally)
        for future in beside:
            if error := future.result().error:
                progress.say(f"the KV error by layer is left out: {error}")
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _longest_first(units: Sequence[Unit]) -> list[Unit]:
    """GSM8K's prompts are the longest by far: begun last, it would keep one core busy alone."""
    order = ("gsm8k", "coqa", "truthfulqa_gen", "truthfulqa_mc2", "truthfulqa_mc1", "perplexity")
    return sorted(units, key=lambda unit: order.index(unit.task))


def _fetch_models(units: Sequence[Unit], opened: Opened, progress: Progress) -> None:
    """Convert each model once, here, before several workers ask for it. Raises SpecError, naming the study."""
    from thunderserve.engine.checkpoint.locate import locate

    for model in dict.fromkeys(unit.model for unit in units):
        try:
            locate(model, progress.say)
        except SpecError as error:
            raise SpecError(error.reason, file=opened.file, key="models", value=model, remedy=error.remedy) from None


def _take(unit: Unit, future: Future[worker.Outcome], done: Done, tally: Tally) -> None:
    try:
        outcome = future.result()
    except BrokenProcessPool:
        outcome = worker.Outcome("its process died", "The process ended without a word: perhaps memory ran out.")
    if outcome.error:
        done.errors[unit.key] = outcome.error
        keep.write_failure(done.folder, unit, outcome)
        tally.failed += len(unit.codecs)
    else:
        keep.finish(done.folder, unit)
        tally.done += len(unit.codecs)


def _state(folder: Path, unit: Unit) -> str:
    path = keep.journal_of(folder, unit)
    try:
        answered = len({one["question"] for one in journal.read(path)})
        total = path.with_suffix(".total").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return f"{unit.words}: loading"
    return f"{unit.words}: {answered} of {total} questions"
