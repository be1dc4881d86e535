"""A study file that cannot be used is refused with file, line, key, value and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.accuracy.study import Opened, open_study
from harness.accuracy.units import expand
from thunderserve.spec.errors import SpecError
from thunderserve.spec.kv import CODECS

BASE = "name: mine\nmodels: tiny\ncodecs: [int4]\ntasks: [coqa]\n"


def write(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def opened(folder: Path, text: str = BASE, *overrides: str, data: Path | None = None) -> Opened:
    return open_study(write(folder, text), overrides, data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BASE.replace("int4", "int5"), r"mine.yaml:3: codecs: 'int5' is not a codec; did you mean 'int\d'\?"),
        (
            BASE.replace("coqa", "cooqa"),
            r"mine.yaml:4: tasks\[0\].*is not a task; did you mean 'coqa'\? \(got 'cooqa'\)",
        ),
        (BASE + "limt: 3\n", r"mine.yaml:5: limt: unknown key; did you mean 'limit'\?"),
        (BASE + "limit: 0\n", r"mine.yaml:5: limit: input should be greater than 0 \(got 0\)"),
        (BASE.replace("coqa", "{name: coqa, limit: 0}"), r"mine.yaml:4: tasks\[0\].limit: .*greater than 0 \(got 0\)"),
        (
            BASE + "dtype: int8\n",
            r"mine.yaml:5: dtype: input should be 'float32', 'bfloat16' or 'float16' \(got 'int8'\)",
        ),
        (BASE.replace("models: tiny\n", ""), r"mine.yaml:1: models: is missing; add the key 'models'"),
        (BASE.replace("tiny", "[]"), r"mine.yaml:2: models: value should have at least 1 item"),
        (
            BASE + "data: /nowhere/at/all\n",
            r"/nowhere/at/all: data: no such folder; name one, or leave it out for the hub",
        ),
        ("- a list\n", r"mine.yaml:1: is not a study; see configs/accuracy/quick.yaml for one"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        opened(tmp_path, text)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("limit", r"an override reads key=value \(got 'limit'\); for example limit=20"),
        ("limit=-3", r"limit: input should be greater than 0 \(got -3\)"),
        ("codecs=int44", r"codecs: 'int44' is not a codec; did you mean 'int4'\?"),
        ("codecs=[int4", r"codecs: is not YAML \(got '\[int4'\); write for example codecs=\[int4,int2\]"),
    ],
)
def test_a_bad_override_is_refused(tmp_path: Path, words: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        opened(tmp_path, BASE, words)


def test_sixteen_bit_is_always_measured_first_and_nothing_twice(tmp_path: Path) -> None:
    assert opened(tmp_path).study.codecs == ("raw", "int4")
    text = BASE.replace("[int4]", "[int4, exact, raw, int4]")
    assert opened(tmp_path, text).study.codecs == ("raw", "int4", "exact")


def test_one_thing_stands_for_a_list_of_one(tmp_path: Path) -> None:
    study = opened(tmp_path, BASE.replace("[coqa]", "coqa"), "codecs=int2", "seeds=3").study
    assert (study.models, study.codecs, study.seeds) == (("tiny",), ("raw", "int2"), (3,))
    assert [task.name for task in study.tasks] == ["coqa"]


def test_a_task_may_have_its_own_limit_and_batch(tmp_path: Path) -> None:
    text = BASE.replace("[coqa]", "[coqa, {name: gsm8k, limit: 3, batch: 2}]") + "limit: 9\nbatch: 5\nseeds: [0, 1]\n"
    units = expand(opened(tmp_path, text, data=tmp_path))
    assert [(u.task, u.limit, u.batch, u.seed) for u in units] == [
        ("coqa", 9, 5, 0), ("coqa", 9, 5, 1), ("gsm8k", 3, 2, 0), ("gsm8k", 3, 2, 1),
    ]  # fmt: skip


def test_a_unit_is_another_one_when_its_questions_are(tmp_path: Path) -> None:
    """Codecs and batches share answers; data, limits, seeds and the model's arithmetic do not."""
    (tmp_path / "coqa").mkdir()
    path = tmp_path / "coqa" / "turns.jsonl"
    path.write_text("{}\n")

    def key(*overrides: str) -> str:
        return expand(opened(tmp_path, BASE, *overrides, data=tmp_path))[0].key

    first = key()
    assert first == key("codecs=[int2,int8]") == key("batch=9") == key("threads=2")
    others = {key("limit=3"), key("seeds=1"), key("dtype=bfloat16"), key("wire_dtype=bfloat16"), key("models=other")}
    path.write_text('{"changed": 1}\n')
    assert len({first, *others, key()}) == 7


def test_data_are_named_found_or_left_to_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THUNDERSERVE_DATA", str(tmp_path))
    assert opened(tmp_path).data is None, "the folder has no eval/ in it"
    (tmp_path / "eval").mkdir()
    assert opened(tmp_path).data == str(tmp_path / "eval")
    assert opened(tmp_path, data=tmp_path).data == str(tmp_path)


@pytest.mark.parametrize("name", ["quick", "paper", "llama-7b"])
def test_the_studies_that_come_with_it_can_be_read(name: str) -> None:
    study = open_study(name).study
    assert study.codecs[0] == "raw"
    assert set(study.codecs) <= set(CODECS)
    assert {"coqa", "truthfulqa_gen", "gsm8k"} <= {task.name for task in study.tasks}
