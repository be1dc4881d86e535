from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from served import Served, end, start

from thunderserve.engine.vllm.launch import interpreter
from thunderserve.spec.errors import SpecError


@pytest.fixture(scope="session", autouse=True)
def python() -> str:
    """Of vLLM's environment."""
    try:
        return interpreter()
    except SpecError as error:
        pytest.skip(f"{error}: real vLLM is not tested")


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One prefill and one decode instance."""
    served = start(tmp_path_factory.mktemp("vllm"))
    yield served
    end(served)
