"""After the answers: the table in three forms, the figures, and a W&B run."""

from __future__ import annotations

import hashlib
import os
import warnings
from dataclasses import asdict
from pathlib import Path

from harness.accuracy import figures, table
from harness.accuracy.compare import Row, rows
from harness.accuracy.drive import Done
from harness.accuracy.study import Opened
from harness.store import atomic, manifest
from harness.sweep.digest import ROOT


def finish(opened: Opened, done: Done, *, pictures: bool = True) -> list[Row]:
    """Write ``table.md``, ``table.csv`` and the figures for what is there; give the rows."""
    found = rows(done.folder, done.units)
    if found:
        atomic.write_text(done.folder / "table.md", table.markdown(found))
        atomic.write_text(done.folder / "table.csv", table.as_csv(found))
        drawn = figures.draw_all(found, done.folder, _origin(opened)) if pictures else []
        _track(opened, done, found, drawn)
    return found


def _origin(opened: Opened) -> str:
    study = opened.study
    where = "local questions" if opened.data else "questions from the hub"
    commit = str(manifest.code(ROOT)["commit"])[:10]
    return f"measured · {study.dtype} on {study.device}, KV sent from {study.wire_dtype} · {where} · commit {commit}"


def _track(opened: Opened, done: Done, found: list[Row], drawn: list[Path]) -> None:
    """One W&B run for the study as it stands; the same table is not told twice."""
    settings = opened.study.wandb
    if settings is None or "disabled" in (settings.mode, os.environ.get("WANDB_MODE")):
        return
    content = (done.folder / "table.csv").read_bytes()
    run_id = f"{opened.study.name}-{hashlib.sha256(content).hexdigest()[:8]}"
    marker = done.folder / "wandb" / "tracked" / f"{run_id}.{settings.mode}"
    if marker.exists():
        return
    try:
        import wandb

        run = wandb.init(
            id=run_id, name=opened.study.name, project=settings.project, entity=settings.entity, mode=settings.mode,
            tags=[*settings.tags, "accuracy"], dir=str(done.folder), config=opened.study.model_dump(mode="json"),
            settings=wandb.Settings(silent=True, console="off"),
        )  # fmt: skip
        for row in found:
            prefix = f"{row.model}/{row.task}/{row.metric}/{row.codec}"
            run.summary.update({f"{prefix}/score": row.score.value, f"{prefix}/difference": row.difference.value})
            run.summary.update({f"{prefix}/kl": row.kl.value, f"{prefix}/identical": row.identical})
        plain = [{key: str(value) for key, value in asdict(row).items()} for row in found]
        run.log({"accuracy": wandb.Table(columns=list(plain[0]), data=[list(one.values()) for one in plain])})
        run.log({path.stem: wandb.Image(str(path)) for path in drawn if path.suffix == ".png"})
        run.finish()
    except Exception as error:  # a tracker never harms a run
        warnings.warn(f"W&B is not tracked: {error}", RuntimeWarning, stacklevel=2)
        return
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
