from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("aiohttp")

sys.path.insert(0, str(Path(__file__).parent))  # the scripted server is a module beside the tests
