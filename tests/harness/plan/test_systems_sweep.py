"""All systems at equal prices: each on a cluster of its own, and compared across clusters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness import comparison
from harness.result import SweepResult
from harness.sweep import systems
from harness.sweep.cells import expand
from harness.sweep.resolve import resolve
from harness.sweep.source import read
from thunderserve.spec.errors import SpecError

SWEEP = """\
name: pairs
systems: [{name: vllm, clusters: inhouse-8xa100}, {name: distserve, clusters: [cloud-32, inhouse-8xa100]}, alpa]
clusters: [cloud-32, inhouse-8xa100]
models: [llama-7b]
workloads: [fixed-512-128]
rate: 2
slo: {scale: 5}
"""


def test_a_system_runs_on_the_clusters_it_names(tmp_path: Path) -> None:
    (tmp_path / "pairs.yaml").write_text(SWEEP)
    cells = expand(resolve(read(tmp_path / "pairs.yaml")))
    assert [(cell.system.family, cell.cluster) for cell in cells] == [
        ("distserve", "cloud-32"),
        ("alpa", "cloud-32"),
        ("vllm", "inhouse-8xa100"),
        ("distserve", "inhouse-8xa100"),
        ("alpa", "inhouse-8xa100"),
    ]
    assert cells[0].system.options == {}
    assert cells[0].system.shown == "distserve"


def test_a_cluster_that_the_sweep_has_not_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pairs.yaml").write_text(SWEEP.replace("clusters: inhouse-8xa100}", "clusters: inhouse-8xa10}"))
    with pytest.raises(SpecError) as refused:
        resolve(read(tmp_path / "pairs.yaml"))
    assert refused.value.key == "systems[0].clusters"
    assert refused.value.line == 2
    assert str(refused.value).endswith(
        "is none of the sweep's clusters (got 'inhouse-8xa10'); did you mean 'inhouse-8xa100'?"
    )


def test_our_own_system_is_found_without_an_entry_anywhere() -> None:
    assert "thunderserve" in systems.names()
    assert systems.system_class("thunderserve").__module__ == "thunderserve.scheduler.system"
    assert systems.source_digest("thunderserve") == ""
    assert systems.options("thunderserve")["codec"] == "4bit"
    for ablation in ({"codec": "16bit"}, {"orchestration": "uniform"}, {"init": "random"}, {"phase_split": "off"}):
        assert systems.build("thunderserve", ablation) != systems.build("thunderserve", {})


def test_the_shipped_sweep_compares_at_equal_prices() -> None:
    cells = expand(resolve(read("systems")))
    where = {cell.system.family: cell.cluster for cell in cells}
    assert {name for name, cluster in where.items() if cluster == "inhouse-8xa100"} == {"vllm", "distserve"}
    assert {name for name in where if where[name] == "cloud-32"} == set(systems.names()) - {"vllm", "distserve"}
    assert len(cells) == len(where) * 2 * 5 * 3


def test_systems_with_a_cluster_each_are_compared_across_them(make: Callable[..., SweepResult], tmp_path: Path) -> None:
    from dataclasses import replace

    sweep = make(tmp_path, rates=(1.0,), seeds=(0,), count=50)
    first = sweep.cells[0].axes.system
    cells = tuple(
        replace(cell, axes=replace(cell.axes, cluster="cloud-32" if cell.axes.system == first else "inhouse-8xa100"))
        for cell in sweep.cells
    )
    apart = replace(sweep, cells=cells)
    assert {group.place.cluster for group in comparison.groups(apart)} == {"cloud-32 / inhouse-8xa100"}
    both = replace(sweep, cells=(*cells, *sweep.cells))
    assert {group.place.cluster for group in comparison.groups(both)} == {"cloud-32", "inhouse-8xa100"}
