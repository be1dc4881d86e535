"""What cannot be divided is refused in words; what can, is loaded in part."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoConfig, GPT2Config, GPT2LMHeadModel

from thunderserve.engine.checkpoint.tiny import tiny
from thunderserve.engine.options import Rank
from thunderserve.engine.ranks.load import load

TOP = {"model.embed_tokens.weight"}, {"model.norm.weight", "lm_head.weight"}


def loaded(folder: Path, rank: Rank, layers: int = 3) -> Any:
    wires: Any = SimpleNamespace(first=rank.first == 0, last=rank.stop == layers)
    return load(str(folder), AutoConfig.from_pretrained(folder), rank, wires, torch.float32, "sdpa")


def test_a_stage_has_its_own_layers_alone(tmp_path: Path) -> None:
    folder = tiny(tmp_path)
    begin, end = (
        {name: value.shape for name, value in loaded(folder, rank).named_parameters()}
        for rank in (Rank(0, 1, 1, 2), Rank(1, 3))
    )
    assert {name for name in begin if ".layers." not in name} == TOP[0]
    assert {name for name in end if ".layers." not in name} == TOP[1]
    assert {name.split(".")[2] for name in set(begin) - TOP[0]} == {"0"}
    assert {name.split(".")[2] for name in set(end) - TOP[1]} == {"1", "2"}
    assert end["model.layers.1.self_attn.k_proj.weight"] == (32, 64)
    assert begin["model.layers.0.self_attn.k_proj.weight"] == (16, 64)
    assert begin["model.layers.0.mlp.down_proj.weight"] == (64, 64)


def test_what_cannot_be_divided_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tiny(tmp_path / "odd", intermediate_size=129)
    with pytest.raises(ValueError, match=r"2 ranks cannot divide model.layers.0.mlp.\w+, which has 129"):
        loaded(odd, Rank(0, 3, 0, 2))
    GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=11, n_positions=4)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="GPT2LMHeadModel is more than embeddings, layers and a norm in a row"):
        loaded(tmp_path, Rank(0, 1), layers=2)


def test_a_checkpoint_of_other_names_is_refused(tmp_path: Path) -> None:
    folder = tiny(tmp_path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="there are no safetensors"):
        loaded(folder, Rank(0, 1))
    tiny(tmp_path, num_hidden_layers=2)
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))
    with pytest.raises(ValueError, match=r"the checkpoint has no model.layers.2\."):
        loaded(folder, Rank(1, 3))
