"""Tiny random models, and a folder of made-up questions in the schema of the official data sets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from eval.weights import Weights

ARCHITECTURES = ("llama", "qwen2", "mistral", "gemma3")
STORIES = (
    "Ada keeps three hens. The hens lay two eggs a day.",
    "The bear would not cross the bridge. The river was cold.",
)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Two threads of so small a model wait for each other, for seconds where the cores are busy."""
    pytest.importorskip("torch").set_num_threads(1)


@pytest.fixture(scope="session")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Weights]:
    """The tiny model of an architecture, loaded once."""
    pytest.importorskip("torch")
    from eval.weights import load
    from thunderserve.engine.checkpoint.tiny import tiny

    found: dict[str, Weights] = {}

    def give(architecture: str) -> Weights:
        if architecture not in found:
            # With Gemma's tied embeddings a random model says its last token for ever, which would prove nothing.
            folder = tiny(tmp_path_factory.mktemp(architecture), architecture, seed=5, tie_word_embeddings=False)  # type: ignore[arg-type]
            found[architecture] = load(str(folder))
        return found[architecture]

    return give


@pytest.fixture(scope="session")
def weights(model_of: Callable[[str], Weights]) -> Weights:
    """Llama with grouped queries: 4 heads, 2 KV heads, 3 layers, head 16."""
    return model_of("llama")


@pytest.fixture(params=ARCHITECTURES)
def each(request: pytest.FixtureRequest, model_of: Callable[[str], Weights]) -> Weights:
    """Every architecture: biases (qwen2), a window of 24 tokens (mistral), windows of 16 in two layers of three (gemma3)."""
    return model_of(request.param)


def write(path: Path, lines: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


@pytest.fixture(scope="session")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files as the product expects them below its data folder: 6 turns of 2 conversations, 5 of TruthfulQA, 4 of GSM8K."""
    folder = tmp_path_factory.mktemp("data")
    turns = []
    for number, story in enumerate(STORIES):
        asked = [f"What is word {i} of story {number}?" for i in range(3)]
        said = [story.split()[i] for i in range(3)]
        for turn in (1, 2, 3):
            ids = list(range(1, turn + 1))
            turns.append(
                {
                    "id": f"story{number}#{turn}", "source": "made up", "story": story,
                    "questions": {"input_text": asked[:turn], "turn_id": ids},
                    "answers": {"input_text": said[:turn], "turn_id": ids},
                    "additional_answers": {str(k): {"input_text": said[:turn], "turn_id": ids} for k in range(3)},
                }
            )  # fmt: skip
    write(folder / "coqa" / "coqa_subset_turns.validation.jsonl", turns)
    chosen = [{"choices": [f"yes {i}", f"no, {i} is wrong", "perhaps"], "labels": [1, 0, 0]} for i in range(5)]
    multiple = [{"question": f"Is {i} even?", "mc1_targets": one, "mc2_targets": one} for i, one in enumerate(chosen)]
    write(folder / "truthfulqa" / "multiple_choice.validation.jsonl", multiple)
    free = [
        {
            "type": "made up", "category": "made up", "question": f"Is {i} even?", "best_answer": f"{i} is a number.",
            "correct_answers": [f"{i} is a number.", "It depends."], "incorrect_answers": ["No.", "Never."], "source": "",
        }
        for i in range(5)
    ]  # fmt: skip
    write(folder / "truthfulqa" / "generation.validation.jsonl", free)
    sums = [{"question": f"What is {i} + {i}?", "answer": f"{i} + {i} = {2 * i}\n#### {2 * i}"} for i in range(12)]
    write(folder / "gsm8k" / "test.jsonl", sums[:4])
    write(folder / "gsm8k" / "train.jsonl", sums[4:])
    return folder
