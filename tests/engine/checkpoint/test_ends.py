from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("transformers")

from thunderserve.engine.checkpoint.ends import end_tokens
from thunderserve.engine.checkpoint.tiny import tiny


def test_generation_settings_come_before_the_configuration(tmp_path: Path) -> None:
    folder = tiny(tmp_path / "model")
    settings = folder / "generation_config.json"
    settings.write_text(json.dumps({"eos_token_id": [257, 3]}))
    assert end_tokens(str(folder)) == (257, 3)
    settings.write_text(json.dumps({"eos_token_id": 5}))
    assert end_tokens(str(folder)) == (5,)
    settings.unlink()
    assert end_tokens(str(folder)) == (257,)  # of config.json
