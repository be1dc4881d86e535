"""The JSON Schemas accept what is shipped, and refuse what the loader refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from ruamel.yaml import YAML

from harness.plan.file import PlanFile
from harness.sweep.schema import KINDS, schema
from thunderserve.spec.plan import Batching, Flow, Phase, Plan, Replica, Stage

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = {
    "sweep": "sweeps",
    "gpu": "gpus",
    "cluster": "clusters",
    "model": "models",
    "workload": "workloads",
    "efficiency": "efficiency",
    "question": "plans",
    "plan": "plans",
}
"""Both kinds of ``plans`` stand side by side: a plan file has the key ``plan``."""
BROKEN = Path(__file__).parent / "broken"


def content(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path.read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_is_one(kind: str) -> None:
    Draft7Validator.check_schema(schema(kind))


@pytest.mark.parametrize("kind", FOLDERS)
def test_what_is_shipped_passes(kind: str) -> None:
    files = sorted((ROOT / "configs" / FOLDERS[kind]).glob("*.yaml"))
    if FOLDERS[kind] == "plans":
        files = [path for path in files if ("plan" in content(path)) == (kind == "plan")]
    assert files
    checker = Draft7Validator(schema(kind))
    for path in files:
        assert [error.message for error in checker.iter_errors(content(path))] == [], path.name


@pytest.mark.parametrize("name", ["unknown_key", "missing_key", "impossible_value"])
def test_what_is_broken_in_form_does_not_pass(name: str) -> None:
    assert list(Draft7Validator(schema("sweep")).iter_errors(content(BROKEN / f"{name}.yaml")))


def test_quantities_may_have_short_keys_with_units_or_full_names() -> None:
    checker = Draft7Validator(schema("gpu"))
    gpu = content(ROOT / "configs" / "gpus" / "a40.yaml")
    sheet = gpu["datasheet"]
    sheet["memory_bytes"] = 51539607552
    del sheet["memory"]
    assert checker.is_valid(gpu)
    sheet["memory"] = 48
    assert not checker.is_valid(gpu)
    del gpu["fabric_bandwidth"]
    assert not checker.is_valid(gpu)


def test_a_plan_that_was_written_passes(tmp_path: Path) -> None:
    stage = Stage(devices=(0, 1), num_layers=60)
    replica = Replica(stages=(stage,), phase=Phase.BOTH, batching=Batching(policy="chunked"))
    plan = Plan(system="vllm", replicas=(replica,), flows=(Flow(prefill=0, decode=0, share=1.0),))
    filed = PlanFile(cluster="inhouse-8xa100", model="llama-30b", rate_per_s=4.0, plan=plan)
    checker = Draft7Validator(schema("plan"))
    assert checker.is_valid(json.loads(filed.model_dump_json(exclude_none=True)))
    assert not checker.is_valid({"plan": {"system": "vllm"}})
