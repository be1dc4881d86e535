"""A run of the command, whole and killed: the same table, nothing answered twice, and all that it leaves on disk."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_study import Begin, Finished, Small

PIECES, QUESTIONS, CODECS = 24, 12, ("raw", "int4", "int2")


def table(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "table.csv").read_text(encoding="utf-8").splitlines()))


def journals(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {
        path.name: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for path in sorted((folder / "journals").glob("*.jsonl"))
    }


def test_every_question_has_one_answer_a_codec(finished: Finished) -> None:
    found = journals(finished.folder)
    assert sorted(len(lines) for lines in found.values()) == [3 * QUESTIONS, 3 * PIECES]
    for lines in found.values():
        assert set(Counter((line["question"], line["codec"]) for line in lines).values()) == {1}
        assert {line["codec"] for line in lines} == set(CODECS)


def test_the_table_follows_from_the_journal(finished: Finished) -> None:
    """Perplexity, KL, wire and agreement, computed here a second time from the answers."""
    rows = {(row["task"], row["codec"]): row for row in table(finished.folder)}
    assert len(rows) == 6
    for lines in journals(finished.folder).values():
        task = "perplexity" if len(lines) == 3 * PIECES else "truthfulqa_mc1"
        own = {codec: [line for line in lines if line["codec"] == codec] for codec in CODECS}
        for codec in CODECS:
            row, ours, raw = rows[task, codec], own[codec], own["raw"]
            assert int(row["questions"]) == len(ours)
            assert float(row["kl"]) == pytest.approx(sum(line["kl"] for line in ours) / len(ours), rel=1e-5, abs=1e-12)
            sizes = [sum(line[name] for line in ours) for name in ("wire_bytes", "raw_bytes")]
            assert float(row["wire"]) == pytest.approx(sizes[0] / sizes[1], rel=1e-5)
            if task == "perplexity":
                loss = [-line["loglikelihoods"][0] / line["continuation_tokens"][0] for line in ours]
                base = [-line["loglikelihoods"][0] / line["continuation_tokens"][0] for line in raw]
                assert float(row["score"]) == pytest.approx(math.exp(sum(loss) / len(loss)), rel=1e-5)
                ratio = math.exp(sum(a - b for a, b in zip(loss, base, strict=True)) / len(loss))
                assert float(row["difference"]) == pytest.approx(ratio, rel=1e-5)
            else:
                best = [[max(range(3), key=line["loglikelihoods"].__getitem__) for line in x] for x in (ours, raw)]
                same = sum(a == b for a, b in zip(*best, strict=True)) / QUESTIONS
                assert float(row["identical"]) == pytest.approx(same)
                assert float(row["score"]) == pytest.approx(100 * best[0].count(0) / QUESTIONS, rel=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to find the workers")
def test_a_run_killed_in_the_middle_goes_on_and_comes_to_the_same_table(
    begin: Begin, finished: Finished, tmp_path: Path, workers_of: Callable[[int], list[int]]
) -> None:
    folder = tmp_path / "results"
    run = begin(folder, "-q", "--no-figures", "-j", "1")
    deadline = time.monotonic() + 120
    while sum(map(len, _partial(folder).values())) < 12:
        assert run.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    workers = workers_of(run.pid)
    for process in (run.pid, *workers):
        os.kill(process, signal.SIGKILL)
    run.communicate()
    kept = _partial(folder)
    answered = sum(map(len, kept.values()))
    assert 12 <= answered < 3 * (PIECES + QUESTIONS), "killed in the middle"
    assert not (folder / "table.csv").exists()

    # What a power cut leaves on top of it: a line that was being written.
    broken = next(path for path in (folder / "journals").glob("*.jsonl") if kept[path.name])
    with broken.open("a", encoding="utf-8") as stream:
        stream.write('{"question": 23, "codec": "raw", "sco')

    again = begin(folder, "-q", "--no-figures", "-j", "1")
    errors = again.communicate(timeout=240)[1]
    assert again.returncode == 0, errors
    assert (folder / "table.csv").read_bytes() == (finished.folder / "table.csv").read_bytes()
    whole = journals(folder)
    for name, lines in kept.items():
        assert whole[name][: len(lines)] == lines, "what was answered is kept as it was"
    assert {name: sorted(map(str, lines)) for name, lines in whole.items()} == {
        name: sorted(map(str, lines)) for name, lines in journals(finished.folder).items()
    }


def _partial(folder: Path) -> dict[str, list[str]]:
    """Whole lines of the journals of a run that may still be writing."""
    paths = sorted((folder / "journals").glob("*.jsonl"))
    texts = {path.name: path.read_text(encoding="utf-8") for path in paths}
    return {name: [json.loads(line) for line in text.split("\n")[:-1]] for name, text in texts.items()}


def test_a_finished_study_is_not_run_again(begin: Begin, finished: Finished) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.folder.glob("cells/*/*")}
    run = begin(finished.folder, "-q")
    printed, errors = run.communicate(timeout=120)
    assert run.returncode == 0, errors
    assert printed == finished.printed
    assert {path: path.stat().st_mtime_ns for path in finished.folder.glob("cells/*/*")} == before
    assert len(list(finished.folder.glob("wandb/offline-run-*"))) <= 1, "the same table is not told twice"


def test_results_say_where_they_come_from(finished: Finished) -> None:
    content = json.loads((finished.folder / "manifest.json").read_text(encoding="utf-8"))
    assert content["argv"][1] == "accuracy"
    assert content["study"]["codecs"] == list(CODECS)
    assert content["data"] == "local files"
    assert {"torch", "transformers", "lm-eval", "python"} <= set(content["versions"])
    assert set(content["code"]) >= {"commit", "dirty"}
    assert len(content["units"]) == 2
    for cell in finished.folder.glob("cells/*/cell.json"):
        described = json.loads(cell.read_text(encoding="utf-8"))
        assert described["unit"] in {unit["key"] for unit in content["units"]}
        assert described["codec"] in CODECS
        assert set(described["files"]) == {"answers.parquet"}


def test_figures_are_drawn_and_say_what_they_show(finished: Finished) -> None:
    pytest.importorskip("matplotlib")
    folder = finished.folder / "figures"
    names = {
        f"tiny-llama-{what}.{kind}"
        for what in ("perplexity", "differences", "kv-error")
        for kind in ("pdf", "png", "svg")
    }
    assert {path.name for path in folder.iterdir()} == names
    for path in folder.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 10_000


def test_an_offline_run_of_wandb_is_written(finished: Finished) -> None:
    pytest.importorskip("wandb")
    (run,) = finished.folder.glob("wandb/offline-run-*")
    (log,) = run.glob("*.wandb")
    assert log.stat().st_size > 1000
    (told,) = run.glob("files/media/table/*.json")
    content = json.loads(told.read_text(encoding="utf-8"))
    assert len(content["data"]) == len(table(finished.folder))
    assert {row[content["columns"].index("codec")] for row in content["data"]} == set(CODECS)
    assert len(list(run.glob("files/media/images/*.png"))) == 3
    assert len(list((finished.folder / "wandb" / "tracked").iterdir())) == 1


def test_what_is_printed_is_the_table_in_80_columns(finished: Finished) -> None:
    lines = finished.printed.splitlines()
    assert lines[0] == "Accuracy with compressed KV: tiny-llama"
    assert max(map(len, lines[:-1])) <= 80
    assert lines[-1].startswith("2 of 2 measurements done: ")
    assert any(line.startswith("quoted, not measured here") for line in lines)


def test_a_model_that_is_not_there_is_named_with_study_key_and_remedy(
    begin: Begin, small: Small, tmp_path: Path
) -> None:
    run = begin(tmp_path, "models=[smolm2-135m]", "-q")
    errors = run.communicate(timeout=120)[1]
    assert run.returncode == 2
    assert f"{small.study}: models: no such model (got 'smolm2-135m'); did you mean 'smollm2-135m'?" in errors
