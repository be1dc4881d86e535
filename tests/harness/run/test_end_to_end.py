"""The main job, small: real systems, the simulator, figures and the report; and the recorded trace at its own pace."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from harness.run.drive import Options, drive, prepare
from harness.run.progress import Silent
from harness.store import columns
from harness.sweep.source import read

ROOT = Path(__file__).resolve().parents[3]
DATA = Path(os.environ.get("THUNDERSERVE_DATA", ROOT.parent / "shared" / "data"))
CONVERSATION = DATA / "traces" / "azure" / "AzureLLMInferenceTrace_conv.csv.gz"
SMALL = ("requests=60", "seeds=[0]", "rate=[2]", "wandb=null")


def test_the_quickstart_makes_tables_figures_and_a_report(tmp_path: Path) -> None:
    pytest.importorskip("seaborn", reason="figures need the extra 'figures'")
    source = read(ROOT / "configs" / "sweeps" / "quickstart.yaml", SMALL)
    run = drive(prepare(source, tmp_path / "out"), Options(workers=1), Silent())
    assert (run.tally.done, run.tally.failed) == (8, 0)
    assert not [words for words in run.warnings if "drawn" in words and "requests" not in words]
    with (tmp_path / "out" / "summary.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 8 * 3
    assert {row["system"] for row in rows} == {"thunderserve", "hexgen", "vllm", "distserve[affinity=low]"}
    table = columns.read(tmp_path / "out" / "summary.parquet")
    np.testing.assert_allclose(table["slo_attainment"], [float(row["slo_attainment"]) for row in rows])
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000
    for name in source.content["figures"]:
        assert list((tmp_path / "out" / "figures").glob(f"{name}*.pdf"))


@pytest.mark.skipif(not CONVERSATION.is_file(), reason="the recorded Azure traces are not here")
def test_a_recorded_trace_is_replayed_at_its_own_pace(tmp_path: Path) -> None:
    replay = (f"workloads=[{{path: {CONVERSATION}, label: recorded}}]", "arrivals=replay", "rate=null", "requests=200")
    one = ("wandb=null", "systems=[vllm]", "clusters=[inhouse-8xa100]")
    source = read(ROOT / "configs" / "sweeps" / "quickstart.yaml", [*replay, *one])
    run = drive(prepare(source, tmp_path / "out"), Options(workers=1, pictures=False), Silent())
    assert (run.tally.total, run.tally.done) == (1, 1)
    (cell,) = run.finish.result.cells  # type: ignore[union-attr]
    assert cell.axes.rate_per_s is None
    assert cell.axes.requests == 200
    table = columns.read(cell.folder / "requests.parquet")
    assert np.all(np.diff(table["arrival_s"]) >= 0)
    assert (table["finish_s"] > table["arrival_s"]).all()
    assert cell.facts.offered_rate_per_s == pytest.approx(200 / table["arrival_s"][-1])
