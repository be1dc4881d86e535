"""Actors of a Ray cluster give the bytes of one process, and a missing Ray is said in words."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.run.drive import Options, Prepared, drive
from harness.run.progress import Silent
from thunderserve.spec.errors import SpecError

HAS_RAY = importlib.util.find_spec("ray") is not None


@pytest.mark.skipif(not HAS_RAY, reason="the extra 'ray' is not installed")
def test_actors_give_the_bytes_of_one_process(
    prepared: Callable[..., Prepared], steady: Callable[[Path], dict[str, bytes]]
) -> None:
    plain, remote = prepared(results="plain"), prepared(results="remote")
    drive(plain, Options(workers=1, pictures=False), Silent())
    run = drive(remote, Options(workers=2, pictures=False, ray="local"), Silent())
    assert (run.tally.done, run.tally.failed) == (8, 0)
    assert steady(remote.store.folder) == steady(plain.store.folder)


@pytest.mark.skipif(HAS_RAY, reason="Ray is installed here")
def test_a_missing_ray_is_said_in_words(prepared: Callable[..., Prepared]) -> None:
    with pytest.raises(SpecError, match=r"--ray: Ray is not installed; pip install 'thunderserve\[ray\]'"):
        drive(prepared(), Options(pictures=False, ray="auto"), Silent())
