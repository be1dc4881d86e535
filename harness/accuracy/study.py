"""The study file as a noun: models x tasks x codecs x seeds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from thunderserve.spec import document
from thunderserve.spec.catalogue import find
from thunderserve.spec.errors import SpecError, nearest
from thunderserve.spec.kv import CODECS
from thunderserve.spec.noun import Noun

REFERENCE = "raw"
"""16 bit: what every codec is compared with, always measured."""
EXACT = "exact"
TASKS = ("coqa", "truthfulqa_gen", "truthfulqa_mc1", "truthfulqa_mc2", "gsm8k", "perplexity")


def _many(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


def _task(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class TaskChoice(Noun):
    """A task: ``coqa``, or ``{name: coqa, limit: 20, batch: 8}``."""

    name: str
    limit: int | None = Field(default=None, gt=0)
    """Questions; by default the study's own limit."""
    batch: int | None = Field(default=None, gt=0)
    """Questions decoded together; by default the study's."""

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in TASKS:
            raise ValueError(f"is not a task; {nearest(name, TASKS)}")
        return name


class Tracking(Noun):
    """What is said of Weights & Biases, as in a sweep."""

    mode: Literal["offline", "online", "disabled"] = "offline"
    project: str = "thunderserve"
    entity: str | None = None
    tags: tuple[str, ...] = ()


class Study(Noun):
    """A file of ``configs/accuracy``."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    description: str = ""
    models: Annotated[tuple[str, ...], BeforeValidator(_many), Field(min_length=1)]
    """Packaged names, folders, .gguf files, or hub names."""
    tasks: Annotated[
        tuple[Annotated[TaskChoice, BeforeValidator(_task)], ...], BeforeValidator(_many), Field(min_length=1)
    ]
    codecs: Annotated[tuple[str, ...], BeforeValidator(_many), Field(min_length=1)]
    limit: int | None = Field(default=None, gt=0)
    """Questions a task; none: all there are."""
    seeds: Annotated[tuple[int, ...], BeforeValidator(_many), Field(min_length=1)] = (0,)
    """0 takes the first questions; any other number a random choice of them."""
    batch: int = Field(default=4, gt=0)
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the model's arithmetic."""
    wire_dtype: Literal["float16", "bfloat16"] = "float16"
    """The 16-bit format of the KV that is sent."""
    device: str = "cpu"
    threads: int = Field(default=1, gt=0)
    """Of each worker process."""
    data: str | None = None
    """A folder with ``coqa/``, ``truthfulqa/`` and ``gsm8k/``; by default what ``THUNDERSERVE_DATA`` names, or the hub."""
    wandb: Tracking | None = None

    @field_validator("codecs")
    @classmethod
    def _are_known(cls, codecs: tuple[str, ...]) -> tuple[str, ...]:
        for codec in codecs:
            if codec not in (*CODECS, EXACT):
                raise ValueError(f"{codec!r} is not a codec; {nearest(codec, (*CODECS, EXACT))}")
        return tuple(dict.fromkeys((REFERENCE, *codecs)))


@dataclass(frozen=True)
class Opened:
    """A study with where it came from and where its data lies."""

    study: Study
    file: Path
    text: str
    data: str | None


def open_study(name: str, overrides: Sequence[str] = (), data: Path | None = None) -> Opened:
    """Read a study by path, or by name from ``configs/accuracy``. Raises SpecError."""
    path = find("accuracy", name)
    content = document.read(path)
    if not isinstance(content, dict):
        raise SpecError("is not a study", file=path, line=1, remedy="see configs/accuracy/quick.yaml for one")
    for words in overrides:
        key, equals, value = words.partition("=")
        if not equals:
            raise SpecError("an override reads key=value", value=words, remedy="for example limit=20")
        try:
            content[key] = YAML(typ="safe", pure=True).load(value)
        except YAMLError:
            raise SpecError(
                "is not YAML", key=key, value=value, remedy="write for example codecs=[int4,int2]"
            ) from None
    study = document.validate(Study, content, file=path)
    return Opened(study, path, path.read_text(encoding="utf-8"), _data(study, data))


def _data(study: Study, given: Path | None) -> str | None:
    """Local files where they are named or found, else the hub. Raises SpecError for a folder that is not there."""
    if given is not None or study.data is not None:
        folder = given if given is not None else Path(str(study.data))
        if not folder.exists():
            raise SpecError("no such folder", file=folder, key="data", remedy="name one, or leave it out for the hub")
        return str(folder.resolve())
    named = os.environ.get("THUNDERSERVE_DATA")
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = (Path(named) if named else beside) / "eval"
    return str(folder) if folder.is_dir() else None
