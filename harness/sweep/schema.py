"""JSON Schemas of the YAML kinds, with the short keys that carry units beside the full SI names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, TypeAdapter

from thunderserve.spec.noun import dimension_of, short_keys

DRAFT = "http://json-schema.org/draft-07/schema#"


def _sweep() -> type[BaseModel]:
    from harness.sweep.sweep import Sweep

    return Sweep


def _gpu() -> type[BaseModel]:
    from thunderserve.spec.gpu import GpuFile

    return GpuFile


def _cluster() -> type[BaseModel]:
    from thunderserve.spec.cluster_file import ClusterFile

    return ClusterFile


def _model() -> type[BaseModel]:
    from thunderserve.spec.model import ModelSpec

    return ModelSpec


def _workload() -> type[BaseModel]:
    from thunderserve.workload import WorkloadFile

    return WorkloadFile


def _efficiency() -> type[BaseModel]:
    from thunderserve.cost.efficiency import Efficiency

    return Efficiency


def _question() -> type[BaseModel]:
    from harness.plan.file import Question

    return Question


def _plan() -> type[BaseModel]:
    from harness.plan.file import PlanFile

    return PlanFile


KINDS: dict[str, Callable[[], type[BaseModel]]] = {
    "sweep": _sweep,
    "gpu": _gpu,
    "cluster": _cluster,
    "model": _model,
    "workload": _workload,
    "efficiency": _efficiency,
    "question": _question,
    "plan": _plan,
}
"""Kind -> the noun of its files."""


def schema(kind: str) -> dict[str, Any]:
    """The JSON Schema of one kind of file. Raises KeyError for an unknown kind."""
    noun = KINDS[kind]()
    content = TypeAdapter(noun).json_schema(ref_template="#/$defs/{model}")
    nouns = {found.__name__: found for found in _nouns(noun)}
    for name, part in content.get("$defs", {}).items():
        if name in nouns:
            _with_units(nouns[name], part)
    _with_units(noun, content)
    if kind == "sweep":
        _with_shorthands(content)
    if kind == "efficiency":
        _with_inheritance(content)
    return {"$schema": DRAFT} | content


def _nouns(noun: type[BaseModel]) -> list[type[BaseModel]]:
    """``noun`` and every noun within it."""
    found: list[type[BaseModel]] = []
    left = [noun]
    while left:
        current = left.pop()
        if current not in found:
            found.append(current)
            left += [part for field in current.model_fields.values() for part in _inside(field.annotation)]
    return found


def _inside(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [noun for part in getattr(annotation, "__args__", ()) for noun in _inside(part)]


def _with_units(noun: type[BaseModel], part: dict[str, Any]) -> None:
    """Let quantities be strings with units, under the short key or the full one; one of the two where it is required."""
    properties, required = part.get("properties", {}), list(part.get("required", []))
    short = {full: key for key, full in short_keys(noun).items()}
    either = []
    for name, field in noun.model_fields.items():
        dimension = dimension_of(field)
        if dimension is None or name not in properties:
            continue
        text = {"type": "string", "description": f"a {dimension.name} with its unit, as '{dimension.example}'"}
        described = {"description": properties[name]["description"]} if "description" in properties[name] else {}
        properties[name] = {"anyOf": [properties[name], text]} | described
        if name in short:
            properties[short[name]] = text | ({} if field.is_required() else {"type": ["string", "null"]})
            if name in required:
                required.remove(name)
                either.append({"anyOf": [{"required": [name]}, {"required": [short[name]]}]})
    if required or "required" in part:
        part["required"] = required
    if either:
        part["allOf"] = either


def _with_shorthands(content: dict[str, Any]) -> None:
    """What a sweep file may say in short: one thing for a list of one, a name for a mapping, a number for an SLO."""
    properties, parts = content["properties"], content["$defs"]
    for name in ("SystemChoice", "BackendChoice", "WorkloadChoice", "ClusterChoice"):
        keys = {"name": {"type": "string"}, "label": {"type": "string"}}
        named = name in ("SystemChoice", "BackendChoice")
        mapping = {"type": "object", "properties": keys} | ({"required": ["name"]} if named else {})
        parts[name] = {"description": parts[name].get("description", ""), "anyOf": [{"type": "string"}, mapping]}
    axis = parts["SloAxis"]["properties"]
    axis["plan"] = {"anyOf": [{"type": "number"}, axis["plan"]]}
    _one_or_many(axis, "scale")
    slos = {"type": "array", "items": {"$ref": "#/$defs/Slo"}, "minItems": 1}
    properties["slo"] = {"anyOf": [properties["slo"], slos]}
    quantity = {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string"}]}
    many = {"type": "array", "items": quantity, "minItems": 1}
    properties["rate"] = {"anyOf": [quantity, many, {"$ref": "#/$defs/CapacityRate"}, {"type": "null"}]}
    for name in (
        "backend",
        "systems",
        "clusters",
        "models",
        "workloads",
        "gpu_catalogue",
        "seeds",
        "metrics",
        "figures",
    ):
        _one_or_many(properties, name)


def _with_inheritance(content: dict[str, Any]) -> None:
    """An efficiency file may leave out what it inherits; its name is that of the file."""
    content["anyOf"] = [{"required": ["inherits"]}, {"required": [key for key in content["required"] if key != "name"]}]
    content["required"] = ["source"]


def _one_or_many(properties: dict[str, Any], name: str) -> None:
    listed = properties[name]
    properties[name] = {"anyOf": [listed, listed["items"]]}
