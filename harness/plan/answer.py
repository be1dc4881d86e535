"""What ``harness plan`` and ``harness simulate`` do, top to bottom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from harness.cli import out
from harness.plan import file, make, progress, table
from harness.plan.bottleneck import Bottleneck, bottleneck
from harness.plan.case import Case, open_case, overridden
from harness.plan.file import Question, Setting
from harness.plan.judge import Verdict, judge
from thunderserve.spec.errors import SpecError

if TYPE_CHECKING:
    from harness.plan.loss import Loss


@dataclass(frozen=True)
class Wishes:
    """What a user wants of an answer."""

    seconds: float | None = None
    requests: int = 3000
    seed: int = 0
    output: Path | None = None
    picture: Path | None = None
    explain: bool = False
    markdown: bool = False
    quiet: bool = False
    as_json: bool = False


def plan(asked: Question, source: Path, given: Mapping[str, Any], wishes: Wishes) -> None:
    """Ask a system for a plan, judge it, and print, draw or explain it. Raises SpecError."""
    question = overridden(asked, given)
    case = open_case(question, source)
    system = make.build(question.system, question.options, wishes.seconds, beside=source.parent)
    with progress.shown(quiet=wishes.quiet) as look:
        made = make.make(case, system, look, seed=wishes.seed)
    verdict = judge(case, made.plan, requests=wishes.requests, seed=wishes.seed)
    if wishes.output is not None:
        file.write_plan(wishes.output, question, made.plan)
    if wishes.explain:
        _explain(question, case, made, verdict, wishes)
        _draw(verdict, wishes.picture)
    else:
        _tell(case, made, verdict, bottleneck(verdict), as_json=wishes.as_json)
        _draw(verdict, wishes.picture)
        _after_losses(question, case, made, verdict, wishes)


def simulate(
    path: Path, given: Mapping[str, Any], *, requests: int, seed: int, picture: Path | None, as_json: bool
) -> None:
    """Judge the plan of a file. Raises SpecError for one that cannot run."""
    held = file.read_plan(path)
    case = open_case(overridden(Setting(**_setting_of(held)), given), path)
    try:
        verdict = judge(case, held.plan, requests=requests, seed=seed)
    except SpecError as error:
        raise SpecError(error.reason, file=path, key=error.key) from None
    _tell(case, None, verdict, bottleneck(verdict), as_json=as_json)
    _draw(verdict, picture)


def _setting_of(held: file.PlanFile) -> dict[str, Any]:
    return {name: getattr(held, name) for name in Setting.model_fields}


def _tell(case: Case, made: make.Made | None, verdict: Verdict, limit: Bottleneck, *, as_json: bool) -> None:
    if as_json:
        out.as_json(table.as_json(case, made, verdict, limit))
        return
    from rich.console import Console

    table.print_plan(Console(), case, made, verdict, limit)


def _draw(verdict: Verdict, path: Path | None) -> None:
    if path is None:
        return
    from harness.plan.picture import save

    save(verdict, path)


def _loss(question: Question, case: Case, made: make.Made, wishes: Wishes) -> Loss | None:
    if not question.lost:
        return None
    from harness.plan.loss import after_loss

    return after_loss(case, made, question.lost, requests=wishes.requests, seed=wishes.seed)


def _explain(question: Question, case: Case, made: make.Made, verdict: Verdict, wishes: Wishes) -> None:
    from harness.plan.explain import pages, story

    sections = story.tell(made, verdict, _loss(question, case, made, wishes), seed=wishes.seed)
    if wishes.markdown:
        typer.echo(pages.markdown(sections), nl=False)
        return
    from rich.console import Console

    pages.print_pages(sections, Console())


def _after_losses(question: Question, case: Case, made: make.Made, verdict: Verdict, wishes: Wishes) -> None:
    loss = _loss(question, case, made, wishes)
    if loss is None or wishes.as_json:
        return
    from rich.console import Console

    from harness.plan.explain import losses, pages

    pages.print_pages([losses.lost(verdict, loss)], Console())
