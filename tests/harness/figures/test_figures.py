from __future__ import annotations

import csv
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness import figures
from harness.figures import _drawing, _style
from harness.result import SweepResult
from thunderserve.serving.records import meets

pytest.importorskip("seaborn")

Build = Callable[..., SweepResult]
ENDINGS = {".pdf", ".png", ".svg", ".csv", ".txt"}


@pytest.fixture(scope="module")
def drawn(sweep: SweepResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures.draw_all(sweep, figures.names(), folder)
    return folder


def points(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_every_figure_is_written_in_every_form_without_a_warning(drawn: Path) -> None:
    assert {path.name for path in drawn.iterdir()} == {
        f"{name}{ending}" for name in figures.names() for ending in ENDINGS
    }


def test_the_figures_of_the_literature_are_there() -> None:
    wanted = {
        "slo_attainment_vs_rate", "slo_attainment_vs_scale", "throughput", "latency_cdf", "latency_breakdown", "cost",
        "workload", "capacity",
    }  # fmt: skip
    assert wanted <= set(figures.names())
    assert all(figures.load(name).TITLE for name in figures.names())


def test_fonts_are_embedded_truetype_and_no_date_is_kept(drawn: Path) -> None:
    for name in figures.names():
        content = (drawn / f"{name}.pdf").read_bytes()
        assert b"/Type3" not in content
        assert b"/FontFile2" in content
        assert b"CreationDate" not in content
        assert b"<dc:date>" not in (drawn / f"{name}.svg").read_bytes()


def test_widths_are_those_of_a_column_and_of_the_text(sweep: SweepResult, tmp_path: Path) -> None:
    single = replace(sweep, cells=tuple(c for c in sweep.cells if c.axes.workload == "azure-code"))
    for result, inches in ((sweep, 6.75), (single, 3.25)):
        with _style.paper():
            (drawing,) = figures.load("throughput").draw(result)
        assert drawing.figure.get_size_inches()[0] == inches


def test_the_same_results_are_the_same_bytes(sweep: SweepResult, drawn: Path, tmp_path: Path) -> None:
    again = figures.draw_all(sweep, ["slo_attainment_vs_rate", "latency_cdf"], tmp_path)
    assert len(again) == 10
    for path in again:
        assert path.read_bytes() == (drawn / path.name).read_bytes(), path.name


def test_a_settled_figure_stays_where_it_is_whatever_the_solver_does_next(sweep: SweepResult) -> None:
    with _style.paper():
        (drawing, *_) = figures.load("latency_cdf").draw(sweep)
        _drawing.settle(drawing.figure)
        places = [axes.get_position().bounds for axes in drawing.figure.axes]
        drawing.figure.axes[0].set_ylabel("a label\nof\nmany\nlines")
        drawing.figure.draw_without_rendering()
    assert [axes.get_position().bounds for axes in drawing.figure.axes] == places
    assert all(edge == pytest.approx(round(edge, 4), abs=1e-12) for place in places for edge in place)


def test_captions_name_backend_catalogue_sample_and_commit(drawn: Path) -> None:
    for name in figures.names():
        caption = (drawn / f"{name}.txt").read_text()
        for word in ("simulated", "datasheet catalogue", "3 seeds × 600 requests", "commit 0123456789"):
            assert word in caption, name


def test_points_are_those_of_the_cells(sweep: SweepResult, drawn: Path) -> None:
    rows = points(drawn / "slo_attainment_vs_rate.csv")
    assert len(rows) == 2 * 2 * 4 * 3
    (row,) = [
        r for r in rows
        if (r["system"], r["workload"], r["rate_per_s"], r["kind"]) == ("vllm", "azure-conv", "4", "slo_attainment")
    ]  # fmt: skip
    shares = [
        cell.judged[1].metrics["slo_attainment"]
        for cell in sweep.cells
        if (cell.axes.system, cell.axes.workload, cell.axes.rate_per_s) == ("vllm", "azure-conv", 4.0)
    ]
    assert float(row["share"]) == pytest.approx(np.mean(np.array(shares, float)))
    assert float(row["low"]) <= float(row["share"]) <= float(row["high"])


def test_scales_are_judged_from_saved_requests(sweep: SweepResult, drawn: Path) -> None:
    rows = points(drawn / "slo_attainment_vs_scale.csv")
    mine = [r for r in rows if (r["system"], r["workload"]) == ("vllm", "azure-code")]
    shares = [float(r["share"]) for r in mine]
    assert len(mine) > 20
    assert shares == sorted(shares), "a wider limit is never harder"
    at = mine[len(mine) // 2]
    cells = [
        cell for cell in sweep.cells
        if (cell.axes.system, cell.axes.workload, cell.axes.rate_per_s) == ("vllm", "azure-code", float(at["rate_per_s"]))
    ]  # fmt: skip
    slow = []
    for cell in cells:
        view = cell.view(cell.judged[0].slo.scaled(float(at["scale"]) / 2))
        slow.append(meets(view.records, view.limits).joint.mean())
    assert float(at["share"]) == pytest.approx(np.mean(slow), abs=0.004)


def test_stages_add_up_to_the_mean_latency(sweep: SweepResult) -> None:
    from harness.figures.latency_breakdown import stages

    for cell in sweep.cells[::7]:
        records = cell.view(cell.judged[0].slo).records
        found = stages(records)
        assert sum(found.values()) == pytest.approx(np.nanmean(records.latencies.e2e_s))
        assert (found["KV transfer"] > 0) == (cell.axes.family == "distserve")


def test_a_curve_crosses_where_a_line_between_points_does() -> None:
    from harness.figures.slo_attainment_vs_rate import crossed

    assert crossed([1, 2, 3], [1.0, 0.95, 0.85], 0.9) == pytest.approx(2.5)
    assert crossed([1, 2], [0.8, 0.7], 0.9) is None
    assert crossed([1, 2], [1.0, 0.95], 0.9) is None
    assert crossed([1, 4, 16], [1.0, 1.0, 0.8], 0.9) == pytest.approx(8.0), "halfway on a logarithmic axis"


def test_a_system_looks_the_same_whoever_is_beside_it() -> None:
    alone = _style.looks([("vllm", "vllm")])["vllm"]
    crowd = _style.looks([(name, name) for name in ("hexgen", "thunderserve", "vllm", "mine", "other")])
    assert crowd["vllm"] == alone
    assert len({look.color for look in crowd.values()}) == 5
    assert _style.looks([("mine", "mine")])["mine"] == crowd["mine"]


def test_variants_of_a_family_share_its_hue_but_not_the_marker() -> None:
    found = _style.looks([("distserve[a=1]", "distserve"), ("distserve[a=2]", "distserve"), ("vllm", "vllm")])
    assert len({(look.color, look.marker, str(look.dash)) for look in found.values()}) == 3
    assert found["distserve[a=1]"].marker != found["distserve[a=2]"].marker


def test_a_dozen_strangers_get_looks_that_differ() -> None:
    found = _style.looks([(f"system{i}", f"system{i}") for i in range(8)])
    assert len({look.color for look in found.values()}) == 8


def test_simulated_and_measured_never_share_a_marker(build: Build) -> None:
    result = build(backends=("simulated", "engine"), rates=(1.0, 4.0), seeds=(0,), count=40)
    with _style.paper():
        (drawing,) = figures.load("slo_attainment_vs_rate").draw(result)
    faces: dict[str, set[str]] = {}
    for line in drawing.figure.axes[0].get_lines():
        if line.get_marker() not in ("None", None, ""):
            faces.setdefault(str(line.get_color()), set()).add(str(line.get_markerfacecolor()))
    assert faces == {color: {"white", color} for color in faces}
    assert len(faces) == 2
    labels = [text.get_text() for text in drawing.figure.legends[0].get_texts()]
    assert "vllm (simulated)" in labels
    assert "vllm (engine)" in labels


def test_clusters_and_models_have_figures_of_their_own(build: Build, tmp_path: Path) -> None:
    result = build(rates=(1.0, 2.0), seeds=(0,), count=30)
    other = tuple(replace(cell, axes=replace(cell.axes, cluster="cloud-32")) for cell in result.cells)
    written = figures.draw_all(replace(result, cells=result.cells + other), ["throughput"], tmp_path)
    assert {path.stem for path in written} == {"throughput-cloud-32", "throughput-inhouse-8xa100"}


@pytest.mark.parametrize("rates", [(None,), (2.0,)])
def test_a_replay_and_a_single_rate_can_be_drawn(build: Build, tmp_path: Path, rates: tuple[float | None, ...]) -> None:
    result = build(rates=rates, seeds=(0,), count=30)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        written = figures.draw_all(result, figures.names(), tmp_path)
    assert {"throughput.pdf", "latency_cdf.pdf", "workload.pdf", "slo_attainment_vs_scale.pdf"} <= {
        p.name for p in written
    }


def test_no_cells_no_figures(sweep: SweepResult, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert figures.draw_all(replace(sweep, cells=()), figures.names(), tmp_path) == []


def test_a_figure_that_fails_warns_and_spares_the_others(
    sweep: SweepResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(result: SweepResult) -> list[object]:
        raise RuntimeError("no ink")

    monkeypatch.setattr(figures.load("cost"), "draw", fail)
    with pytest.warns(RuntimeWarning, match="figure cost could not be drawn: RuntimeError"):
        written = figures.draw_all(sweep, ["cost", "throughput"], tmp_path)
    assert {path.stem for path in written} == {"throughput"}


def test_without_the_extra_there_is_one_worded_warning(
    sweep: SweepResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "seaborn" else object())
    with pytest.warns(RuntimeWarning, match=r"pip install 'thunderserve\[figures\]'") as caught:
        assert figures.draw_all(sweep, figures.names(), tmp_path) == []
    assert len(caught) == 1


def test_listing_figures_imports_nothing_heavy() -> None:
    heavy = "{'matplotlib', 'pandas', 'seaborn', 'numpy'}"
    code = f"import sys, harness.figures as f; f.names(); sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_figure_names_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"there is no figure 'pie'; choose from .*throughput"):
        figures.load("pie")
