from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker processes find the modules beside these tests."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
