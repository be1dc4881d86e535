"""Step times seen from outside, of a server whose times are known."""

from __future__ import annotations

import asyncio
import csv
from pathlib import Path

import pytest
from scripted_server import Scripted, running

pytest.importorskip("torch")

from harness.load.outcome import Outcome
from harness.load.profile import Grid, measure, short_prompts, whole_batch
from harness.store import atomic
from thunderserve.cost.profiled import curves_from, read_profile
from thunderserve.engine.profile import COLUMNS, Shape, rows
from thunderserve.spec.errors import SpecError

QUICK = Grid(prefill_tokens=(32, 64), decode_batches=(1, 4), decode_contexts=(16, 64), repeats=3, decode_steps=8)


def measured():
    async def main():
        async with running(Scripted(first_s=0.1, gap_s=0.03)) as url:
            return await measure(url, "scripted", QUICK)

    return asyncio.run(asyncio.wait_for(main(), 60))


def test_what_a_server_takes_is_what_is_measured(tmp_path: Path) -> None:
    found = measured()
    seconds = {one.shape: one.seconds for one in found}
    for tokens in QUICK.prefill_tokens:
        assert seconds[Shape("prefill", tokens, 1, 0)] == pytest.approx(0.1, abs=0.03)
    steps = [one for one in found if one.shape.phase == "decode"]
    assert {one.shape.batch for one in steps} == {1, 4}
    assert all(one.seconds == pytest.approx(0.03, abs=0.01) for one in steps)
    assert all(one.shape.context >= 16 for one in steps)

    lines = [COLUMNS, *rows(found, "cpu-core", "scripted")]
    file = tmp_path / "profile.csv"
    atomic.write_text(file, "".join(",".join(map(str, line)) + "\n" for line in lines))
    assert len(list(csv.DictReader(file.open()))) == len(found)
    curves = curves_from(read_profile(file))
    assert curves.token_s[0] == pytest.approx(0.03, abs=0.01), "a step of one token takes what a decoding one does"


def test_a_whole_batch_is_timed_while_it_is_whole() -> None:
    def answer(first_s: float, gap_s: float, count: int) -> Outcome:
        return Outcome(0.0, 0.0, [first_s + gap_s * place for place in range(count)])

    lone = answer(0.0, 0.01, 100)  # alone for a second, then in company
    lone.token_s[50:] = [0.5 + 0.1 * place for place in range(50)]
    late = answer(0.5, 0.1, 20)
    found = whole_batch([lone, late], Shape("decode", 2, 2, 100))
    assert found.seconds == pytest.approx(0.1)
    assert found.shape.context == 100 + round((59.5 + 9.5) / 2)
    with pytest.raises(SpecError, match="whole for 0 steps only"):
        whole_batch([answer(0.0, 0.01, 10), answer(1.0, 0.01, 10)], Shape("decode", 2, 2, 100))


def test_short_prompts_are_batches_at_the_shortest_context() -> None:
    found = measured()
    short = short_prompts(found)
    assert [one.shape for one in short] == [Shape("prefill", 1, 1, 0), Shape("prefill", 4, 1, 0)]
