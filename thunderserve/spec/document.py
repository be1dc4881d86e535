"""YAML (1.2) files with line numbers, read into nouns; what is wrong in them, said once and in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from thunderserve.spec.errors import SpecError, nearest
from thunderserve.spec.noun import short_keys
from thunderserve.spec.units import DIMENSIONS

N = TypeVar("N", bound=BaseModel)
Path_ = tuple[str | int, ...]


def read(path: Path) -> Any:
    """The plain content of a YAML file (with line marks where it is a mapping or a list).

    Raises SpecError for a file that is missing, empty or not YAML, with the line.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError("no such file", file=path, remedy=_neighbours(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"cannot be read: {error}", file=path) from None
    try:
        content = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else None
        raise SpecError(f"is not YAML: {error.problem or error.context}", file=path, line=line) from None
    if content is None:
        raise SpecError("is empty", file=path)
    return content


def load(noun: type[N], path: Path) -> N:
    """Read ``path`` as a ``noun``; SpecError with file, line, key, value, reason and the nearest valid name."""
    return validate(noun, read(path), file=path)


def validate(noun: type[N], content: Any, *, file: Path | str | None = None, at: Path_ = ()) -> N:
    """Validate content that came from ``file`` (at the key path ``at`` in it)."""
    try:
        return noun.model_validate(content)
    except ValidationError as error:
        raise explain(error, noun, content, file=file, at=at) from None


def explain(
    error: ValidationError, noun: type[BaseModel], content: Any, *, file: Path | str | None = None, at: Path_ = ()
) -> SpecError:
    """The first of pydantic's complaints as a SpecError. Unknown keys come first: they often cause the others."""
    details = error.errors(include_url=False)
    worst = min(details, key=lambda detail: (detail["type"] != "extra_forbidden", details.index(detail)))
    loc = tuple(worst["loc"])
    reason, remedy, value = _words(worst, noun, loc)
    path = _present(content, loc) + (loc[-1:] if worst["type"] == "missing" else ())
    return SpecError(
        reason, file=file, line=line_of(content, path), key=dotted((*at, *path)), value=value, remedy=remedy
    )


def _words(detail: ErrorDetails, noun: type[BaseModel], loc: Path_) -> tuple[str, str, object]:
    value = detail["input"]
    shown = value if isinstance(value, str | int | float | bool) else None
    if detail["type"] == "extra_forbidden":
        owner = _owner(noun, loc[:-1])
        known = _known_keys(owner) if owner is not None else []
        return "unknown key", nearest(str(loc[-1]), known), None
    if detail["type"] == "missing":
        return "is missing", f"add the key {loc[-1]!r}", None
    if detail["type"] in {"union_tag_invalid", "union_tag_not_found"}:
        return _tag_words(detail)
    reason = detail["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return reason[:1].lower() + reason[1:], "", shown


def _tag_words(detail: ErrorDetails) -> tuple[str, str, object]:
    """What is wrong with the key (``kind``) that chooses among nouns."""
    context = detail.get("ctx", {})
    key = str(context.get("discriminator", "")).strip("'")
    if detail["type"] == "union_tag_not_found":
        return f"does not say its {key}", f"add the key {key!r}", None
    known = [name.strip().strip("'") for name in str(context["expected_tags"]).split(",")]
    return f"unknown {key}", nearest(str(context["tag"]), known), context["tag"]


def _owner(noun: type[BaseModel], loc: Path_) -> type[BaseModel] | None:
    """The noun that lies at ``loc`` within ``noun``, so that its keys can be suggested."""
    candidates = [noun]
    for step in loc:
        tagged = [model for model in candidates if len(candidates) > 1 and _answers_to(model, step)]
        fields = [model.model_fields[step] for model in candidates if step in model.model_fields]
        candidates = tagged or [inner for field in fields for inner in _models_in(field.annotation)] or candidates
    return candidates[0] if candidates else None


def _answers_to(model: type[BaseModel], tag: str | int) -> bool:
    """Whether pydantic means ``model`` by ``tag``: its name, or the value of its discriminating ``kind``."""
    kind = model.model_fields.get("kind")
    return model.__name__ == tag or (kind is not None and tag in getattr(kind.annotation, "__args__", ()))


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]


def _known_keys(noun: type[BaseModel]) -> list[str]:
    short = short_keys(noun)
    full = {name: key for key, name in short.items()}
    return [full.get(name, field.alias or name) for name, field in noun.model_fields.items()]


def _present(content: Any, loc: Path_) -> Path_:
    """The part of ``loc`` that stands in ``content``: without pydantic's own steps (union tags), and with the short keys."""
    path: list[str | int] = []
    for step in loc:
        if isinstance(content, dict):
            short = [dimension.short_key(step) for dimension in DIMENSIONS] if isinstance(step, str) else []
            key = step if step in content else next((key for key in short if key in content), None)
            if key is None:
                continue
            content = content[key]
            path.append(key)
        elif isinstance(content, list) and isinstance(step, int) and step < len(content):
            content = content[step]
            path.append(step)
    return tuple(path)


def line_of(content: Any, path: Path_) -> int | None:
    """The line (from 1) of the last step of ``path`` that stands in ``content``; None where there are no marks."""
    line: int | None = None
    for step in path:
        marks = getattr(content, "lc", None)
        data = getattr(marks, "data", None) or {}
        if step in data:
            line = data[step][0] + 1
        elif marks is not None and marks.line is not None and line is None:
            line = marks.line + 1
        try:
            content = content[step]
        except (KeyError, IndexError, TypeError):
            break
    if line is None and getattr(content, "lc", None) is not None and content.lc.line is not None:
        line = content.lc.line + 1
    return line


def dotted(path: Path_) -> str:
    """``systems[1].affinity`` for ``("systems", 1, "affinity")``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else (f".{step}" if text else str(step))
    return text


def _neighbours(path: Path) -> str:
    folder = path.parent if path.parent.is_dir() else None
    return nearest(path.name, [item.name for item in folder.glob("*.y*ml")]) if folder else "check the path"
