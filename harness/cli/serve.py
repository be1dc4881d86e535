"""``harness serve``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import asyncio

    from rich.table import Table

    from thunderserve.engine.coordinator.coordinator import Coordinator
    from thunderserve.engine.coordinator.peer import Peer
    from thunderserve.engine.launch.service import Service

REFRESH_S = 0.5
HEADINGS = ("replica", "phase", "pid", "waiting", "running", "KV", "tok/s", "sent", "received")


def serve(
    plan: Annotated[
        Path, typer.Argument(metavar="PLAN", help="A plan file, as 'harness plan -o plan.json' writes it.")
    ],
    model: Annotated[
        str | None,
        typer.Option(help="A packaged model, a folder, a .gguf file, or owner/model of a hub; default: the plan's."),
    ] = None,
    host: Annotated[str, typer.Option(help="Where clients reach it.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    kv_gib: Annotated[float, typer.Option(min=0.001, help="Memory of each worker for keys and values, in GiB.")] = 1.0,
    max_context: Annotated[int, typer.Option(min=0, help="Tokens of prompt and answer; 0: the model's own.")] = 0,
    link_gbit: Annotated[
        float | None,
        typer.Option(min=0, help="Imitate a link of so many Gbit/s between workers; default: the cluster's."),
    ] = None,
    link_latency_ms: Annotated[float | None, typer.Option(min=0, help="And of this latency.")] = None,
    codec: Annotated[str, typer.Option(help="Of keys and values in transfer; default: the plan's.")] = "",
    engine: Annotated[str, typer.Option(help="thunderserve (ours) or vllm.")] = "thunderserve",
    vllm_python: Annotated[
        str | None, typer.Option(help="Python of vLLM's environment; default: $THUNDERSERVE_VLLM_PYTHON, .venv-vllm.")
    ] = None,
    attach: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL", help="A vLLM instance that runs already; one for each replica, in the plan's order."
        ),
    ] = None,
    kv_transport: Annotated[str, typer.Option(help="Of keys and values between vLLM instances: tcp, or nixl.")] = "tcp",
    restart: Annotated[bool, typer.Option("--restart/--no-restart", help="Start workers again that have died.")] = True,
    logs: Annotated[Path, typer.Option(help="Folder of the logs.")] = Path("results/serve"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No table of the workers.")] = False,
) -> None:
    """Serve a model by a plan, for real: one process a replica, behind an OpenAI-compatible front.

    Ends cleanly on an interrupt or SIGTERM. A worker that dies is started again, and what it served goes on elsewhere.
    """
    import asyncio
    from importlib.util import find_spec

    from thunderserve.spec.errors import SpecError

    if absent := [name for name in ("torch", "transformers", "aiohttp") if find_spec(name) is None]:
        raise SpecError(f"the engine needs {', '.join(absent)}", remedy="pip install 'thunderserve[engine]'")
    from harness.cli._engines import Given
    from harness.plan.file import read_plan
    from thunderserve.engine.checkpoint.locate import locate
    from thunderserve.engine.coordinator.dispatch import Way
    from thunderserve.engine.coordinator.settings import Settings
    from thunderserve.engine.launch.launch import Launch, LaunchError
    from thunderserve.engine.launch.plan import Wishes
    from thunderserve.engine.launch.service import Service
    from thunderserve.spec.load import load_cluster

    held = read_plan(plan)
    name = model or held.model
    if name is None:
        raise SpecError(
            "no model is given, and the plan names none", file=plan, remedy="say for example --model smollm2-135m"
        )
    cluster = None  # instances that run elsewhere have links of their own, which need no imitation
    if held.cluster is not None and not attach:
        cluster = load_cluster(held.cluster, held.catalogue, beside=plan.parent, file=plan)
    imitated = link_gbit is not None or link_latency_ms is not None
    wishes = Wishes(
        dtype=dtype, device=device, kv_bytes=int(kv_gib * (1 << 30)), max_context=max_context, codec=codec,
        way=Way((link_gbit or 0) * 1e9 / 8, (link_latency_ms or 0) / 1e3) if imitated else None,
    )  # fmt: skip
    checkpoint = locate(name, lambda words: typer.echo(words, err=True))
    given = Given(engine, vllm_python, tuple(attach or ()), kv_transport)
    launch = Launch(
        held.plan,
        checkpoint,
        logs,
        name=name,
        cluster=cluster,
        wishes=wishes,
        restart=restart,
        settings=Settings(patience_s=given.patience_s) if restart else None,
        **given.staff(held.plan, name, checkpoint, wishes),
    )
    _log_to(logs / "coordinator.log")
    try:
        asyncio.run(_run(Service(launch, checkpoint), host, port, given.ready_s, quiet=quiet))
    except LaunchError as error:
        raise SpecError(str(error), file=plan) from None


async def _run(service: Service, host: str, port: int, ready_s: float, *, quiet: bool) -> None:
    """Until somebody wants it to end; also while it starts."""
    import asyncio
    import signal

    wanted = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, wanted.set)
    ending = asyncio.create_task(wanted.wait())
    starting = asyncio.create_task(service.start(host, port, timeout_s=ready_s, seen=_say_ready))
    try:
        await asyncio.wait((starting, ending), return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            url, took_s = starting.result()
            typer.echo(f"ready: {url} ({len(service.coordinator.peers)} workers, {took_s:.1f} s)")
            await _show(service.coordinator, ending, quiet=quiet)
    finally:
        starting.cancel()
        await asyncio.wait((starting,))
        await service.stop()


def _say_ready(ready: int, count: int) -> None:
    typer.echo(f"{ready} of {count} workers are ready", err=True)


async def _show(coordinator: Coordinator, ending: asyncio.Task[bool], *, quiet: bool) -> None:
    """The workers as they are, until the end; nothing where there is no terminal."""
    import asyncio

    from rich.console import Console
    from rich.live import Live

    console = Console()
    if quiet or not console.is_terminal:
        await ending
        return
    with Live(worker_table(coordinator), console=console, auto_refresh=False, transient=True) as live:
        while not ending.done():
            live.update(worker_table(coordinator), refresh=True)
            await asyncio.wait((ending,), timeout=REFRESH_S)


def worker_table(coordinator: Coordinator) -> Table:
    """One row a replica: what its worker said last."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading == "phase" else "right")
    present = {peer.replica: peer for peer in coordinator.peers}
    for replica, role in enumerate(coordinator.routing.roles):
        table.add_row(str(replica), role.phase, *_cells(present.get(replica)))
    return table


def _cells(peer: Peer | None) -> tuple[str, ...]:
    if peer is None:
        return ("gone",)
    if (beat := peer.beat) is None:
        return (str(peer.hello.pid),)
    return (
        str(peer.hello.pid),
        str(beat.waiting),
        str(beat.running),
        f"{beat.blocks_used / beat.blocks:.0%}",
        f"{peer.rate('output_tokens'):.1f}",
        f"{beat.sent_bytes / 1e6:.1f} MB",
        f"{beat.received_bytes / 1e6:.1f} MB",
    )


def _log_to(file: Path) -> None:
    """What the coordinator notes; clients and workers coming and going, requests that began again."""
    import logging

    file.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(file, mode="w", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    log = logging.getLogger("thunderserve")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
