"""A journal that was cut off anywhere loses at most its last line, and nothing else."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")

from eval.contract import Answer
from harness.accuracy import journal

TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)  # newlines, quotes and other alphabets among them


def content(outputs: list[str], path: Path) -> bytes:
    with path.open("w", encoding="utf-8") as stream:
        journal.append(stream, [Answer(number, "raw", {"em": 1.0}, output) for number, output in enumerate(outputs)])
    return path.read_bytes()


@given(st.lists(TEXTS, min_size=1, max_size=4), st.data())
def test_wherever_it_is_cut_whole_lines_are_kept(
    tmp_path_factory: pytest.TempPathFactory, outputs: list[str], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("journal") / "one.jsonl"
    whole = content(outputs, path)
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    kept = whole[:cut].count(b"\n")
    journal.mend(path)
    found = journal.read(path)
    assert [one["output"] for one in found] == outputs[:kept]
    with path.open("a", encoding="utf-8") as stream:
        journal.append(stream, [Answer(99, "raw")])
    assert [one["question"] for one in journal.read(path)] == [*range(kept), 99]


def test_reading_while_a_line_is_written_gives_the_lines_before_it(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    whole = content(["first", "zwölf"], path)
    path.write_bytes(whole[:-9])
    assert [one["output"] for one in journal.read(path)] == ["first"]
    assert path.read_bytes() == whole[:-9], "reading changes nothing"


def test_a_damaged_line_before_the_last_is_not_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    whole = content(["first", "second"], path).replace(b'"first"', b'"fir')
    path.write_bytes(whole)
    with pytest.raises(ValueError, match=r"one.jsonl:1: is not an answer.*remove the file to measure it again"):
        journal.read(path)


def test_a_journal_that_is_not_there_is_empty(tmp_path: Path) -> None:
    journal.mend(tmp_path / "none.jsonl")
    assert journal.read(tmp_path / "none.jsonl") == []


def test_an_answer_that_is_not_a_number_is_never_written(tmp_path: Path) -> None:
    with (tmp_path / "one.jsonl").open("w") as stream, pytest.raises(ValueError, match="not JSON compliant"):
        journal.append(stream, [Answer(0, "raw", kl=float("nan"))])
    assert journal.read(tmp_path / "one.jsonl") == []


def test_every_field_of_an_answer_comes_back(tmp_path: Path) -> None:
    answer = Answer(3, "int4", {"f1": 0.5}, "a\nb", 2, (-1.5, -2.25), (1, 4), 0.125, 17, 1000, 300, "story#2")
    with (tmp_path / "one.jsonl").open("w") as stream:
        journal.append(stream, [answer])
    (found,) = journal.read(tmp_path / "one.jsonl")
    assert Answer(**{key: tuple(v) if isinstance(v, list) else v for key, v in found.items()}) == answer
    with pytest.raises(io.UnsupportedOperation):  # not a file on a disk: it could not be promised to be there
        journal.append(io.StringIO(), [answer])
    assert json.loads((tmp_path / "one.jsonl").read_text()) == found
