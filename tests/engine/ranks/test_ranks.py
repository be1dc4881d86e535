"""A replica on several ranks gives the tokens of transformers' own ``generate``, and ends when a rank does."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
sys.path.insert(0, str(Path(__file__).parents[1] / "replica"))

from test_generation import ROLES, generated, requests, served

from thunderserve.engine.checkpoint.tiny import tiny
from thunderserve.engine.ranks.layout import Layout, RankOptions, refuse
from thunderserve.engine.ranks.ranks import Ranks, Seat
from thunderserve.engine.replica.core import Replica
from thunderserve.spec.errors import SpecError

CASES = {
    "TP 2": ("llama", ((3, 2),), "chunked"),
    "TP 2 with biases, whole prompts": ("qwen2", ((3, 2),), "whole prompts first"),
    "PP 2, uneven": ("qwen2", ((2, 1), (1, 1)), "chunked"),
    "PP 3 with windows": ("gemma3", ((1, 1), (1, 1), (1, 1)), "chunked"),
    "TP 1, then TP 2": ("mistral", ((1, 1), (2, 2)), "chunked"),
}


@pytest.fixture
def ranks(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Ranks, Path, str]]:
    architecture, stages, role = CASES[request.param]
    folder = tiny(tmp_path / architecture, architecture)
    layout = Layout(stages)
    made = Ranks(str(folder), layout, [Seat("cpu", ())] * layout.size, dtype="float32")
    yield made, folder, role
    made.stop()


@pytest.mark.slow
@pytest.mark.parametrize("ranks", CASES, indirect=True)
def test_answers_are_those_of_generate(ranks: tuple[Ranks, Path, str]) -> None:
    model, folder, role = ranks
    wanted = requests(8, seed=3)
    replica = Replica(ROLES[role], blocks=60, block_tokens=4, max_context=200, reuse=True)
    assert served(model, replica, wanted) == {one.id: generated(folder, one) for one in wanted}  # type: ignore[arg-type]
    assert model.kv_bytes_per_token == 2 * 3 * 2 * model.dim * 4


@pytest.mark.slow
@pytest.mark.parametrize("ranks", ["TP 2"], indirect=True)
def test_a_rank_that_dies_ends_the_step(ranks: tuple[Ranks, Path, str]) -> None:
    model, _, role = ranks
    replica = Replica(ROLES[role], blocks=60, block_tokens=4, max_context=200, reuse=True)
    os.kill(model.processes[0].pid, signal.SIGKILL)
    with pytest.raises(RuntimeError):
        served(model, replica, requests(2, seed=3))  # type: ignore[arg-type]


def test_shares_cover_the_model_once() -> None:
    layout = Layout(((2, 1), (3, 2), (1, 4)))
    shares = [layout.share(rank) for rank in range(layout.size)]
    assert layout.size == 7
    assert [share.layers for share in shares] == [(0, 2), (2, 5), (2, 5), *[(5, 6)] * 4]
    assert [share.place for share in shares] == [0, 0, 1, 0, 1, 2, 3]
    assert [share.first for share in shares] == [True] + [False] * 6
    assert [share.last for share in shares] == [False] * 3 + [True] * 4
    options = RankOptions(1, layout, 1234, "m", "float32", "cpu", "auto", 1, (3,))
    assert RankOptions.from_json(options.to_json()) == options


@pytest.mark.parametrize(
    ("model_type", "degree", "words"), [("gpt2", 1, "cannot be cut"), ("llama", 3, "cannot be shared by 3 devices")]
)
def test_what_cannot_be_cut_is_refused_in_words(model_type: str, degree: int, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        refuse(model_type, 4, 2, [degree])
