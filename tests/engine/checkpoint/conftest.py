from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # gguf_file is a module beside the tests

from gguf_file import Written, write


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A tiny Llama as GGUF, and as it was before."""
    for module in ("gguf", "torch", "transformers"):
        pytest.importorskip(module, reason="checkpoints need the extra 'engine'")
    return write(tmp_path_factory.mktemp("gguf"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of converted models, empty."""
    monkeypatch.setenv("THUNDERSERVE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"
