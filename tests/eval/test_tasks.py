"""Tasks are lm-eval's own definitions on local files, and every codec answers the same questions."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval", reason="the accuracy evaluation needs the extra 'eval'")
pytest.importorskip("torch")

from eval import tasks
from eval.contract import TASKS, Answer, Ask
from eval.measure import measure
from eval.quiet import hush
from eval.weights import Weights
from thunderserve.spec.errors import SpecError

hush()
ROOT = Path(__file__).resolve().parents[2]
OFFICIAL = Path(os.environ.get("THUNDERSERVE_DATA", ROOT.parent / "shared" / "data")) / "eval"
NEAR_TIE = 1e-5
"""Between logits of order one: what the order of float32 sums, which a CPU's matrix library chooses by the batch, can turn."""
SIZES = {"coqa": 191, "truthfulqa_gen": 817, "truthfulqa_mc1": 817, "truthfulqa_mc2": 817, "gsm8k": 1319}


def ask(weights: Weights, folder: Path, task: str, codecs: tuple[str, ...] = ("raw",), **more: Any) -> list[Answer]:
    return list(measure(Ask("tiny", task, codecs, data=str(folder), **more), weights=weights))


@pytest.mark.parametrize("name", SIZES)
def test_local_files_give_the_official_questions(name: str) -> None:
    if not OFFICIAL.is_dir():
        pytest.skip("the official question files are not here; THUNDERSERVE_DATA names the folder that holds them")
    task = tasks.build(name, str(OFFICIAL))
    documents = list(task.eval_docs)
    assert len(documents) == SIZES[name]
    split = {"gsm8k": "test"}.get(name, "validation")
    first = json.loads((OFFICIAL / tasks.LOCAL[name].files[split]).open(encoding="utf-8").readline())
    question = first["question"] if "question" in first else first["questions"]["input_text"][-1]
    prompt = task.doc_to_text(documents[0])
    assert question in prompt
    if name.startswith("truthfulqa"):
        assert prompt.startswith("Q: What is human life expectancy in the United States?\nA: Human life expectancy")
    if name == "coqa":
        assert prompt.startswith(first["story"])
        assert prompt.endswith(f"Q: {question}\n\nA:")


def test_gsm8k_shows_five_solved_questions_of_the_training_file(questions: Path) -> None:
    task = tasks.build("gsm8k", str(questions))
    task.build_all_requests(samples=[0, 1])
    prompts = [instance.args[0] for instance in task.instances]
    for number, prompt in enumerate(prompts):
        shots, own = prompt.rsplit("Question: ", 1)
        assert shots.count("####") == shots.count("Question: ") == 5
        assert own == f"What is {number} + {number}?\nAnswer:"
        assert all(f"What is {i} + {i}?" not in shots for i in range(4)), "no question of the test file is given away"
    assert tasks.stops_of(task.instances[0].args[1])[0] == ["Question:", "</s>", "<|im_end|>"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("coqa", " Ada"), ("truthfulqa_gen", " 0 is a number."), ("gsm8k", " 0 + 0 = 0\n#### 0")],
)
def test_the_reference_is_the_answer_on_file(questions: Path, name: str, expected: str) -> None:
    task = tasks.build(name, str(questions))
    assert tasks.reference_of(task, next(iter(task.eval_docs))) == expected


def test_the_solved_questions_before_a_question_are_the_same_in_every_run(questions: Path) -> None:
    """Else a run that is taken up again, or repeated, asks other questions."""
    prompts = []
    for _ in range(2):
        task = tasks.build("gsm8k", str(questions))
        task.build_all_requests(samples=[0, 1])
        prompts.append([instance.args[0] for instance in task.instances])
    assert prompts[0] == prompts[1]


def test_a_missing_file_is_named_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"train.jsonl: no such file; give the folder that holds it, or no folder"):
        tasks.build("gsm8k", str(tmp_path))


def test_seed_zero_takes_the_first_and_others_a_choice_in_order() -> None:
    assert tasks.chosen(10, 4, 0) == [0, 1, 2, 3]
    assert tasks.chosen(10, None, 0) == tasks.chosen(10, 99, 3) == list(range(10))
    picks = [tasks.chosen(1000, 20, seed) for seed in (1, 1, 2)]
    assert picks[0] == picks[1] == sorted(set(picks[0]))
    assert len(picks[0]) == 20
    assert picks[0] != picks[2]


@pytest.mark.parametrize("task", TASKS)
def test_every_codec_answers_the_same_questions(weights: Weights, questions: Path, task: str) -> None:
    found = ask(weights, questions, task, ("raw", "int4", "exact"), limit=3, seed=7, batch=2)
    asked = {
        codec: [answer.question for answer in found if answer.codec == codec] for codec in ("raw", "int4", "exact")
    }
    assert asked["raw"] == asked["int4"] == asked["exact"]
    count = {"coqa": 6, "gsm8k": 4}.get(task, 5)
    assert asked["raw"] == ([0] if task == "perplexity" else tasks.chosen(count, 3, 7))
    for answer in found:
        assert all(value < 0 for value in answer.loglikelihoods)
        assert answer.raw_bytes == answer.context_tokens * 2 * 2 * 3 * 2 * 16, "2 B x K and V x layers x heads x head"
        assert answer.kl is not None
        assert (answer.kl == 0) == (answer.codec == "raw"), "the divergence is counted from 16 bit as sent"


@pytest.mark.parametrize("task", ["coqa", "truthfulqa_mc2"])
def test_batches_give_the_answers_of_single_questions(
    weights: Weights, questions: Path, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = ask(weights, questions, task, ("raw", "int4"), batch=4)
    forward, margins = Weights.forward, []

    def seen(self: Weights, *given: Any, **more: Any) -> Any:
        logits = forward(self, *given, **more)
        best = logits.topk(2, -1).values
        margins.extend((best[..., 0] - best[..., 1]).flatten().tolist())
        return logits

    monkeypatch.setattr(Weights, "forward", seen)
    single = ask(weights, questions, task, ("raw", "int4"), batch=1)
    assert [(a.question, a.codec) for a in single] == [(b.question, b.codec) for b in batch]
    parted = sum(a.output != b.output for a, b in zip(single, batch, strict=True))
    assert parted <= sum(margin < NEAR_TIE for margin in margins), "only the order of sums may decide, between equals"
    for a, b in zip(single, batch, strict=True):
        assert a.loglikelihoods == pytest.approx(b.loglikelihoods, abs=3e-4)
        assert a.scores == pytest.approx(b.scores, abs=1e-3)


def test_what_is_known_is_not_answered_again(weights: Weights, questions: Path) -> None:
    whole = ask(weights, questions, "truthfulqa_mc1", ("raw", "int4", "int2"))
    known = [(answer.question, answer.codec) for answer in whole][:7]
    rest = list(
        measure(
            Ask("tiny", "truthfulqa_mc1", ("raw", "int4", "int2"), data=str(questions)), skip=known, weights=weights
        )
    )
    assert rest == whole[7:]


def test_multiple_choice_scores_follow_from_the_likelihoods(weights: Weights, questions: Path) -> None:
    """mc1: the likeliest choice is the first. mc2: the share of probability on the true ones (lm-eval's definitions)."""
    import math

    for answer in ask(weights, questions, "truthfulqa_mc1", ("raw", "int2")):
        assert answer.scores["acc"] == float(max(answer.loglikelihoods) == answer.loglikelihoods[0])
    for answer in ask(weights, questions, "truthfulqa_mc2", ("raw", "int2")):
        shares = [math.exp(value) for value in answer.loglikelihoods]
        assert answer.scores["acc"] == pytest.approx(shares[0] / sum(shares), rel=1e-6)


def test_an_answer_is_scored_like_its_text(weights: Weights, questions: Path) -> None:
    from eval.squad import compute_f1

    gold = ["Ada", "keeps", "three", "The", "bear", "would"]
    for answer in ask(weights, questions, "coqa", ("raw",)):
        assert answer.output is not None
        assert answer.scores["f1"] == pytest.approx(compute_f1(gold[answer.question], answer.output.strip()))


def test_turns_know_their_conversation(weights: Weights, questions: Path) -> None:
    found = ask(weights, questions, "coqa", ("raw",))
    assert [answer.group.partition("#")[0] for answer in found] == ["story0"] * 3 + ["story1"] * 3
