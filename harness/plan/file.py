"""Two kinds of files: a question to a planner, and a plan together with what it was made for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from harness.sweep.plain import plain
from thunderserve.spec import document
from thunderserve.spec.catalogue import find
from thunderserve.spec.errors import SpecError
from thunderserve.spec.gpu import Catalogue
from thunderserve.spec.noun import Noun
from thunderserve.spec.plan import Plan
from thunderserve.spec.slo import Slo
from thunderserve.spec.units import PerSecond

DEFAULT_SLO = Slo(scale=5)

Named = Annotated[str | dict[str, Any], BeforeValidator(plain)]
"""A name from the catalogue, a path, or what such a file holds."""


class Setting(Noun):
    """Where a plan is to run and what it is to carry. Everything but the cluster can be given on the command line, too."""

    cluster: Named | None = None
    catalogue: Catalogue = "datasheet"
    market: str | None = None
    """Whose prices, as in a sweep."""
    model: str | None = None
    workload: Named | None = None
    rate_per_s: PerSecond | None = None
    slo: Slo = DEFAULT_SLO
    costs: str = "roofline"
    codec_times: str | None = None
    """The path of a table of codec speeds, as ``harness bench codec --write`` makes it; without one, the paper's overheads."""


class Question(Setting):
    """A file of ``configs/plans``: a setting, the system that is asked, and cards that are lost afterwards."""

    name: str = ""
    description: str = ""
    system: str = "thunderserve"
    options: dict[str, Any] = Field(default={})
    """Of the system."""
    lost: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Cards that fail once the plan runs: what to do then is part of the question."""


class PlanFile(Setting):
    """A plan and the setting it was made for, so that it can be judged alone."""

    plan: Plan


def read_question(name: str) -> tuple[Question, Path]:
    """A question by name or path, and its file. Raises SpecError."""
    path = find("plans", name)
    return document.load(Question, path), path


def read_plan(path: Path) -> PlanFile:
    """A plan file; or a bare plan, which names no setting. JSON or YAML. Raises SpecError."""
    content = document.read(path)
    if not isinstance(content, dict):
        raise SpecError("is not a plan", file=path, line=1, remedy="see 'harness plan -o plan.json' for one")
    if "replicas" in content and "plan" not in content:
        return PlanFile(plan=document.validate(Plan, content, file=path))
    return document.validate(PlanFile, content, file=path)


def write_plan(path: Path, setting: Setting, plan: Plan) -> None:
    """Write a plan with its setting, as JSON."""
    import json

    given = {name: getattr(setting, name) for name in Setting.model_fields}
    content = PlanFile(**given, plan=plan).model_dump(mode="json", exclude_none=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
