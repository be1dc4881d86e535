"""GGUF to safetensors gives the weights that were written, and is done once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from gguf_file import Written  # noqa: E402

from thunderserve.engine.checkpoint.convert import convert  # noqa: E402
from thunderserve.engine.checkpoint.locate import locate  # noqa: E402


def test_weights_come_back_as_bfloat16_of_what_was_written(written: Written, tmp_path: Path) -> None:
    convert(written.gguf, tmp_path / "made")
    source = transformers.AutoModelForCausalLM.from_pretrained(written.source).state_dict()
    made = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "made").state_dict()
    assert made.keys() == source.keys()
    for name, weight in source.items():
        assert made[name].dtype == torch.bfloat16
        assert torch.equal(made[name], weight.to(torch.bfloat16)), name
    config = json.loads((tmp_path / "made" / "config.json").read_text())
    assert "quantization_config" not in config, "transformers would refuse it later"
    assert (config["num_attention_heads"], config["num_key_value_heads"]) == (4, 2)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "made")
    assert tokenizer.decode(tokenizer.encode("Who is there?", add_special_tokens=False)) == "Who is there?"


def test_a_gguf_file_is_converted_once_and_again_when_it_changes(written: Written, cache: Path, tmp_path: Path) -> None:
    gguf = tmp_path / "own.gguf"
    gguf.write_bytes(written.gguf.read_bytes())
    said: list[str] = []
    folder = locate(str(gguf), said.append)
    assert Path(folder).parent == cache
    assert locate(str(gguf), said.append) == folder
    assert said == ["converting own.gguf to safetensors, once; this takes a minute or two"]
    gguf.write_bytes(written.gguf.read_bytes() + b"\0" * 32)
    assert locate(str(gguf), said.append) != folder
    assert len(said) == 2


def test_what_is_no_gguf_file_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"not a model")
    with pytest.raises(ValueError, match=r"broken.gguf|GGUF|magic"):
        convert(tmp_path / "broken.gguf", tmp_path / "made")
    assert not (tmp_path / "made").exists()
