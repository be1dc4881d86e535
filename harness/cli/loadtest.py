"""``harness loadtest``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.exits import Exit


def loadtest(
    url: Annotated[str, typer.Argument(metavar="URL", help="An OpenAI-compatible server, as http://127.0.0.1:8000.")],
    workload: Annotated[
        str, typer.Option(help="A name (harness ls workloads), a workload file or a trace.")
    ] = "azure-conv",
    rate: Annotated[
        float | None, typer.Option(min=0, help="Requests a second; needed unless the workload replays its own times.")
    ] = None,
    requests: Annotated[int, typer.Option(min=1, help="How many.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Of arrivals, lengths and prompts.")] = 0,
    model: Annotated[str | None, typer.Option(help="As the server calls it; default: its first.")] = None,
    scale_lengths: Annotated[
        float, typer.Option(min=0.0001, help="Prompts and answers so many times as long as in the workload.")
    ] = 1.0,
    max_prompt: Annotated[int | None, typer.Option(min=1, help="Cut longer prompts to so many tokens.")] = None,
    max_output: Annotated[int | None, typer.Option(min=1, help="And longer answers.")] = None,
    text: Annotated[bool, typer.Option("--text", help="Prompts of words, not of token ids.")] = False,
    vocabulary: Annotated[
        int | None, typer.Option(min=1, help="Token ids are below it; default: what the server says, else 32000.")
    ] = None,
    slo: Annotated[
        str | None, typer.Option(metavar="LIMITS", help="Absolute limits: ttft=500ms,tpot=50ms,e2e=10s")
    ] = None,
    warm_up: Annotated[int, typer.Option(min=0, help="Requests before, which are not counted.")] = 2,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for each request.")] = 600.0,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the records as Parquet.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON on standard output.")] = False,
) -> None:
    """Replay a workload against a running server, and measure what comes back.

    An open loop: each request is sent at its time, whatever is in flight, and nothing is retried. Latencies count from the
    intended arrival.
    """
    from importlib.util import find_spec

    from thunderserve.spec.errors import SpecError

    if find_spec("aiohttp") is None:
        raise SpecError("the load generator needs aiohttp", remedy="pip install 'thunderserve[engine]'")
    from harness.load.command import Wishes, run

    wishes = Wishes(
        url=url.rstrip("/").removesuffix("/v1"),
        workload=workload,
        rate_per_s=rate,
        requests=requests,
        seed=seed,
        model=model,
        scale_lengths=scale_lengths,
        max_prompt=max_prompt,
        max_output=max_output,
        text=text,
        vocabulary=vocabulary,
        slo=slo,
        warm_up=warm_up,
        timeout_s=timeout,
        output=output,
        quiet=quiet,
        as_json=as_json,
    )
    interrupted, failed = run(wishes)
    raise typer.Exit(Exit.INTERRUPTED if interrupted else Exit.FAILED_CELLS if failed else Exit.OK)
