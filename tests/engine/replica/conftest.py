from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from thunderserve.engine.checkpoint.tiny import Architecture, tiny

Tiny = Callable[[Architecture], Path]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A random model of an architecture, made once."""
    made: dict[str, Path] = {}

    def get(architecture: Architecture) -> Path:
        if architecture not in made:
            made[architecture] = tiny(tmp_path_factory.mktemp(architecture), architecture)
        return made[architecture]

    return get


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
