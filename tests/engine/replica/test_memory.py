"""Memory of keys and values is there from the beginning."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

from thunderserve.engine.replica.memory import PagedMemory

STATM = Path("/proc/self/statm")


@pytest.mark.skipif(not STATM.exists(), reason="no /proc here tells of resident memory")
def test_all_of_it_is_resident_at_once() -> None:
    def resident() -> int:
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    before = resident()
    memory = PagedMemory(range(2), 512, 16, 4, 64, torch.float32, torch.device("cpu"))
    whole = 2 * 2 * 512 * 16 * 4 * 64 * 4
    assert resident() - before > 0.9 * whole
    keys, values = memory.layer(1)
    assert not keys.any()
    assert not values.any()
