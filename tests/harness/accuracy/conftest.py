"""A small study of a tiny random model, and commands that run it on a copy of the code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for small_study, which is shared

from small_study import Begin, Finished, Small

ROOT = Path(__file__).resolve().parents[3]
STUDY = """\
name: small
models: [{model}]
codecs: [raw, int4, int2]
tasks: [perplexity, truthfulqa_mc1]
batch: 1
wandb: {{mode: offline, project: tests}}
"""


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """24 pieces of text and 12 questions, for a tiny Llama."""
    for module in ("torch", "transformers", "lm_eval"):
        pytest.importorskip(module, reason="the accuracy evaluation needs the extra 'eval'")
    from thunderserve.engine.checkpoint.tiny import tiny

    folder = tmp_path_factory.mktemp("study")
    model = tiny(folder / "tiny-llama", seed=2)
    (folder / "data" / "coqa").mkdir(parents=True)
    (folder / "data" / "truthfulqa").mkdir()
    story = " ".join(f"Bear {i} sees {i * i % 17} fish in the river." for i in range(450))
    line = json.dumps({"story": story}) + "\n"
    (folder / "data" / "coqa" / "coqa_subset_turns.validation.jsonl").write_text(line)
    lines = []
    for i in range(12):
        targets = {"choices": [f"yes, {i}", f"no, not {i}", "perhaps"], "labels": [1, 0, 0]}
        lines.append(json.dumps({"question": f"Is {i} even?", "mc1_targets": targets, "mc2_targets": targets}) + "\n")
    (folder / "data" / "truthfulqa" / "multiple_choice.validation.jsonl").write_text("".join(lines))
    study = folder / "small.yaml"
    study.write_text(STUDY.format(model=model))
    return Small(study, folder / "data")


@pytest.fixture(scope="session")
def begin(tmp_path_factory: pytest.TempPathFactory, small: Small) -> Begin:
    """Starts the command on a copy of the code: a file that is edited meanwhile would make every answer a new one."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("thunderserve", "baselines", "harness", "eval", "configs"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))

    def start(results: Path, *more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "harness.cli.main", "accuracy", str(small.study), *more]
        command += ["--data", str(small.data), "--results", str(results)]
        environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "80"}
        environment.pop("WANDB_MODE", None)
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=copy, env=environment, stdout=pipe, stderr=pipe, text=True)

    return start


@pytest.fixture(scope="session")
def finished(begin: Begin, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The small study, run once by the command, with figures and W&B."""
    folder = tmp_path_factory.mktemp("whole") / "results"
    run = begin(folder, "-q")
    printed, errors = run.communicate(timeout=240)
    assert run.returncode == 0, errors
    return Finished(folder, printed)
