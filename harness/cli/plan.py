"""``harness plan``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from harness.plan.file import Question

Cluster = Annotated[str | None, typer.Option(help="A name (harness ls clusters) or a file.")]
Model = Annotated[str | None, typer.Option(help="A name (harness ls models) or a file.")]
Workload = Annotated[str | None, typer.Option(help="A name (harness ls workloads), a workload file or a trace.")]
Rate = Annotated[float | None, typer.Option(min=0, help="Requests a second.")]
Scale = Annotated[
    float | None, typer.Option(min=0, help="Latency limits: so many times the same request alone. [default: 5]")
]
Limit = Annotated[
    str | None, typer.Option("--slo", metavar="LIMITS", help="Absolute limits instead: ttft=500ms,tpot=50ms,e2e=10s")
]
Catalogue = Annotated[str | None, typer.Option(help="Figures of the cards: datasheet or paper. [default: datasheet]")]
Market = Annotated[str | None, typer.Option(help="Whose prices: paper, market or on_demand.")]
Costs = Annotated[str | None, typer.Option(help="Step times: roofline, measured, or a profile of your own.")]
Requests = Annotated[int, typer.Option(min=1, help="Length of the trace that the plan is judged on.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the planner, and of that trace.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON on standard output.")]
Picture = Annotated[Path | None, typer.Option(help="Draw cluster, groups and flows: .pdf, .png or .svg.")]


def plan(
    question: Annotated[
        str | None, typer.Argument(metavar="[QUESTION]", help="A file that asks, or the name of one in configs/plans.")
    ] = None,
    cluster: Cluster = None,
    model: Model = None,
    workload: Workload = None,
    rate: Rate = None,
    slo_scale: Scale = None,
    slo: Limit = None,
    catalogue: Catalogue = None,
    market: Market = None,
    costs: Costs = None,
    system: Annotated[str | None, typer.Option(help="Who plans (harness ls systems). [default: thunderserve]")] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="Of the system; may be repeated.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=0, help="Stop searching after this time.")] = None,
    lose: Annotated[str | None, typer.Option(metavar="CARDS", help="Cards that then fail, as 8,9,10,11.")] = None,
    requests: Requests = 3000,
    seed: Seed = 0,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the plan, for harness simulate.")] = None,
    picture: Picture = None,
    explain: Annotated[bool, typer.Option("--explain", help="Walk through the search by its own numbers.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="The explanation as Markdown.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    as_json: AsJson = False,
) -> None:
    """Plan a deployment, and say what to expect of it.

    Which cards form a replica, what each serves, how it is parallelised, and who sends to whom.
    """
    from harness.plan import answer

    asked, file = _asked(question)
    given = given_setting(cluster, model, workload, rate, slo_scale, slo, catalogue, market, costs)
    given |= {
        "system": system,
        "options": asked.options | options_of(option or []) if option or not system else {},
        "lost": cards_of(lose) if lose is not None else None,
    }
    answer.plan(
        asked,
        file,
        given,
        answer.Wishes(seconds, requests, seed, output, picture, explain or markdown, markdown, quiet, as_json),
    )


def _asked(question: str | None) -> tuple[Question, Path]:
    from harness.plan.file import Question, read_question

    return read_question(question) if question is not None else (Question(), Path("command line"))


def given_setting(
    cluster: str | None,
    model: str | None,
    workload: str | None,
    rate: float | None,
    slo_scale: float | None,
    slo: str | None,
    catalogue: str | None,
    market: str | None,
    costs: str | None,
) -> dict[str, Any]:
    """The fields of a setting that the command line gives, by name; None for the others. Raises SpecError."""
    return {
        "cluster": cluster,
        "model": model,
        "workload": workload,
        "rate_per_s": rate,
        "slo": _slo(slo_scale, slo),
        "catalogue": catalogue,
        "market": market,
        "costs": costs,
    }


def _slo(scale: float | None, limits: str | None) -> Any:
    if limits is None:
        return None if scale is None else {"scale": scale}
    from thunderserve.spec.errors import SpecError

    if scale is not None:
        raise SpecError("is given beside --slo-scale", key="--slo", remedy="give one of the two")
    return dict(_pair(item, "--slo", "ttft=500ms") for item in limits.split(","))


def options_of(given: list[str]) -> dict[str, Any]:
    """``KEY=VALUE`` pairs, values in YAML. Raises SpecError."""
    from ruamel.yaml import YAML

    pairs = [_pair(item, "--option", "codec=16bit") for item in given]
    return {key: YAML(typ="safe").load(value) for key, value in pairs}


def _pair(text: str, option: str, example: str) -> tuple[str, str]:
    from thunderserve.spec.errors import SpecError

    key, sign, value = text.partition("=")
    if not key or not sign:
        raise SpecError("is not of the form key=value", key=option, value=text, remedy=f"write for example {example}")
    return key.strip(), value.strip()


def cards_of(text: str) -> tuple[int, ...]:
    """``8,9,10`` as numbers. Raises SpecError."""
    from thunderserve.spec.errors import SpecError

    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdigit() for part in parts):
        raise SpecError("is not a list of cards", key="--lose", value=text, remedy="write for example 8,9,10,11")
    return tuple(int(part) for part in parts)
