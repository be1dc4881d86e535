"""The real traces, where they are at hand; tests that need them say so and skip elsewhere."""

import os
from pathlib import Path

import pytest

from thunderserve.workload.read import read_rows


def shared(*parts: str) -> Path:
    root = Path(os.environ.get("THUNDERSERVE_DATA", Path(__file__).parents[3] / "shared" / "data"))
    path = root.joinpath("traces", *parts)
    if not path.exists():
        pytest.skip(f"needs the real trace {'/'.join(parts)}: set THUNDERSERVE_DATA to the folder that holds traces/")
    return path


@pytest.fixture(scope="session")
def trace_file():
    """``trace_file("azure", "x.csv.gz")``: the path of a real trace, or a skip."""
    return shared


@pytest.fixture(scope="session")
def azure():
    """``azure("conv")``: the rows of a real Azure trace, or a skip."""
    return lambda which: read_rows(shared("azure", f"AzureLLMInferenceTrace_{which}.csv.gz"))
