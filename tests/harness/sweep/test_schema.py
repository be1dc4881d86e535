"""The JSON Schemas accept what is shipped, and refuse what the loader refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from ruamel.yaml import YAML

from harness.sweep.schema import KINDS, schema

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = {
    "sweep": "sweeps",
    "gpu": "gpus",
    "cluster": "clusters",
    "model": "models",
    "workload": "workloads",
    "efficiency": "efficiency",
}
BROKEN = Path(__file__).parent / "broken"


def content(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path.read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_is_one(kind: str) -> None:
    Draft7Validator.check_schema(schema(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_shipped_passes(kind: str) -> None:
    files = sorted((ROOT / "configs" / FOLDERS[kind]).glob("*.yaml"))
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
