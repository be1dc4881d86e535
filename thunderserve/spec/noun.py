"""What every noun shares: frozen, no unknown keys, and short keys with units beside the full SI names."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from thunderserve.spec.units import Dimension


def dimension_of(field: FieldInfo) -> Dimension | None:
    """The dimension a field declares, also inside ``X | None``."""
    for mark in field.metadata:
        if isinstance(mark, Dimension):
            return mark
    for part in getattr(field.annotation, "__args__", ()):
        for mark in getattr(part, "__metadata__", ()):
            if isinstance(mark, Dimension):
                return mark
    return None


@cache
def short_keys(noun: type[BaseModel]) -> dict[str, str]:
    """Short YAML key -> field name, for the fields of ``noun`` that carry a unit in their name."""
    table = {}
    for name, field in noun.model_fields.items():
        dimension = dimension_of(field)
        short = dimension.short_key(name) if dimension is not None else None
        if short is not None:
            table[short] = name
    return table


class Noun(BaseModel):
    """A validated, immutable value."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _accept_short_keys(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        table = short_keys(cls)
        renamed: dict[Any, Any] = {}
        for key, value in data.items():
            full = table.get(key, key) if isinstance(key, str) else key
            if full in renamed or (full != key and full in data):
                raise PydanticCustomError("twice", "gives {key} twice", {"key": full})
            if isinstance(full, str) and full != key and value is not None and not isinstance(value, str):
                example = dimension_of(cls.model_fields[full])
                raise PydanticCustomError(
                    "unit",
                    "{key} has no unit; write for example '{example}', or {full} with a plain SI number",
                    {"key": key, "example": example.example if example else "", "full": full},
                )
            renamed[full] = value
        return renamed
