"""Tiny models are the same for the same seed, and disturb nobody."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from thunderserve.engine.checkpoint.tiny import Architecture, byte_tokenizer, tiny  # noqa: E402


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize("architecture", get_args(Architecture))
def test_the_seed_decides_every_weight(architecture: Architecture, tmp_path: Path) -> None:
    first = digest(tiny(tmp_path / "a", architecture, seed=4))
    torch.rand(7)  # what others draw meanwhile does not matter
    assert digest(tiny(tmp_path / "b", architecture, seed=4)) == first
    assert digest(tiny(tmp_path / "c", architecture, seed=5)) != first


def test_the_common_random_numbers_go_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    tiny(tmp_path)
    assert torch.equal(torch.rand(3), expected)


def test_it_is_loaded_as_what_it_was_asked_for(tmp_path: Path) -> None:
    tiny(tmp_path, "mistral", num_hidden_layers=2, num_key_value_heads=1)
    config = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).config
    assert (config.model_type, config.num_hidden_layers, config.num_key_value_heads) == ("mistral", 2, 1)
    assert config.sliding_window == 24


def test_answers_differ_from_prompt_to_prompt(tmp_path: Path) -> None:
    """An untrained model of the usual width says the same to everything: tests would then pass whatever reached it."""
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny(tmp_path)).eval()
    prompts = torch.arange(160).reshape(8, 20)
    with torch.inference_mode():
        said = model.generate(prompts, do_sample=False, max_new_tokens=8, attention_mask=torch.ones_like(prompts))
    assert len({tuple(row.tolist()) for row in said[:, 20:]}) >= 7


TOKENIZER = byte_tokenizer(264)


@given(st.text(max_size=40))
def test_a_token_is_a_byte_and_text_comes_back(text: str) -> None:
    ids = TOKENIZER.encode(text)
    assert len(ids) == len(text.encode())
    assert TOKENIZER.decode(ids) == text
    assert not set(ids) & {256, 257, 258}
    assert (TOKENIZER.bos_token_id, TOKENIZER.eos_token_id, TOKENIZER.pad_token_id) == (256, 257, 258)
