"""What ``harness loadtest`` does, top to bottom."""

from __future__ import annotations

import asyncio
import resource
import signal
from dataclasses import dataclass
from pathlib import Path

import typer

from harness.cli import out
from harness.cli.plan import given_setting
from harness.load import show
from harness.load.asks import Prompts, asks_of, scaled, warm_ups
from harness.load.drive import drive
from harness.load.outcome import LoadResult
from harness.load.records import write
from harness.load.server import Served, served
from harness.result import Axes
from thunderserve.spec import document
from thunderserve.spec.errors import SpecError
from thunderserve.spec.slo import Slo
from thunderserve.spec.trace import Trace
from thunderserve.workload import Workload, load

VOCABULARY = 32000
"""Of Llama 2: token ids below it are in the vocabularies of most models."""
MOST_FILES = 1 << 16
"""Connections are files, and an overloaded server leaves many open."""


@dataclass(frozen=True)
class Wishes:
    """What a user wants of a load test; see the command."""

    url: str
    workload: str
    rate_per_s: float | None
    requests: int
    seed: int
    model: str | None
    scale_lengths: float
    max_prompt: int | None
    max_output: int | None
    text: bool
    vocabulary: int | None
    slo: str | None
    warm_up: int
    timeout_s: float
    output: Path | None
    quiet: bool
    as_json: bool


def run(wishes: Wishes) -> tuple[bool, int]:
    """Whether it was interrupted, and how many requests did not finish. Raises SpecError."""
    slo = slo_of(wishes.slo)
    workload = load(wishes.workload)
    model = asyncio.run(served(wishes.url, wishes.model))
    trace = trace_of(workload, wishes, model)
    result = asyncio.run(_drive(wishes, model, trace))
    if wishes.output is not None:
        write(wishes.output, result)
    axes = Axes(
        "server",
        "server",
        wishes.url,
        "",
        "",
        model.name,
        workload.name,
        wishes.rate_per_s,
        wishes.seed,
        wishes.requests,
    )
    found = show.measured(result, trace, slo, axes, wishes.timeout_s)
    if wishes.as_json:
        out.as_json(show.as_json(result, found, slo))
    else:
        offered = f"{trace.offered_rate_per_s:.3g} requests/s"
        title = f"{model.name} at {wishes.url}: {len(trace)} requests of {workload.name}, {offered}, seed {wishes.seed}"
        show.tell(result, found, slo, title)
        if wishes.output is not None:
            typer.echo(f"records: {wishes.output}")
    return result.interrupted, sum(bool(one.error) for one in result.outcomes)


def slo_of(limits: str | None) -> Slo | None:
    """``ttft=500ms,tpot=50ms``. Raises SpecError."""
    given = given_setting(None, None, None, None, None, limits, None, None, None)["slo"]
    if given is None:
        return None
    found = document.validate(Slo, given, at=("--slo",))
    if found.scale is not None:
        raise SpecError("is not absolute", key="--slo", value=limits, remedy="write for example ttft=500ms,tpot=50ms")
    return found


def trace_of(workload: Workload, wishes: Wishes, model: Served) -> Trace:
    """The requests: drawn, scaled, cut, and held against the context of the server. Raises SpecError."""
    if not wishes.rate_per_s and not workload.replays:
        raise SpecError(
            "is needed: this workload has no times of its own", key="--rate", remedy="say for example --rate 2"
        )
    drawn = workload.trace(wishes.requests, wishes.rate_per_s or None, wishes.seed)
    trace = scaled(drawn, wishes.scale_lengths, max_prompt=wishes.max_prompt, max_output=wishes.max_output)
    longest = int((trace.prompt_tokens + trace.output_tokens).max())
    if model.max_context and longest > model.max_context:
        raise SpecError(
            f"the longest request has {longest} tokens, but the context of {model.name} is {model.max_context}",
            remedy="give --scale-lengths, or --max-prompt and --max-output",
        )
    return trace


async def _drive(wishes: Wishes, model: Served, trace: Trace) -> LoadResult:
    _allow_files()
    kind: Prompts = "text" if wishes.text else "tokens"
    vocabulary = wishes.vocabulary or model.vocabulary or VOCABULARY
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
    with show.shown(quiet=wishes.quiet) as look:
        return await drive(
            wishes.url,
            model.name,
            asks_of(trace, wishes.seed, vocabulary=vocabulary, prompts=kind),
            warm_up=warm_ups(wishes.warm_up, wishes.seed, vocabulary=vocabulary, prompts=kind),
            timeout_s=wishes.timeout_s,
            stop=stop,
            look=look,
        )


def _allow_files() -> None:
    """As many open files as the system lets this process have, up to ``MOST_FILES``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(MOST_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
