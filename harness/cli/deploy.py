"""``harness deploy``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from harness.deploy.site import Site

FORMS = ("shell", "compose", "kubernetes")


def deploy(
    plan: Annotated[
        Path, typer.Argument(metavar="PLAN", help="A plan file, as 'harness plan -o plan.json' writes it.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")] = Path("deployment"),
    model: Annotated[
        str | None, typer.Option(help="The checkpoint: owner/model of a hub, or a folder that every node has.")
    ] = None,
    form: Annotated[
        list[str] | None, typer.Option("--format", help="shell, compose or kubernetes; again for more; default: all.")
    ] = None,
    node_address: Annotated[
        list[str] | None,
        typer.Option(metavar="NODE=HOST", help="How other nodes reach a node of the cluster, for shell and compose."),
    ] = None,
    device: Annotated[str, typer.Option(help="cuda or cpu.")] = "cuda",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "bfloat16",
    max_context: Annotated[int, typer.Option(min=0, help="Tokens of prompt and answer; 0: the model's own.")] = 0,
    port: Annotated[int, typer.Option(min=1, max=65000, help="Of the coordinator; instances follow.")] = 8000,
    image: Annotated[str, typer.Option(help="vLLM with this package: see images/ in the output.")] = (
        "thunderserve-vllm:latest"
    ),
    coordinator_image: Annotated[str, typer.Option(help="Of the coordinator.")] = "thunderserve-coordinator:latest",
    namespace: Annotated[str, typer.Option(help="Of Kubernetes.")] = "thunderserve",
    claim: Annotated[str, typer.Option(help="A PersistentVolumeClaim that holds the models.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Write over what is there.")] = False,
) -> None:
    """Write a plan out for vLLM on machines of your own: shell scripts, Docker Compose, Kubernetes manifests.

    Nothing is started. Every instance loads our connector, and 'harness serve --attach' stands before them.
    """
    from harness.deploy.write import Images, write
    from thunderserve.spec.errors import SpecError, nearest

    forms = tuple(dict.fromkeys(form or FORMS))
    for one in forms:
        if one not in FORMS:
            raise SpecError("no such format", key="--format", value=one, remedy=nearest(one, FORMS))
    if output.exists() and any(output.iterdir()) and not force:
        raise SpecError("is not empty", key="--output", value=str(output), remedy="name another folder, or add --force")
    addresses = dict(_pair(one) for one in node_address or ())
    site = _site(plan, model, device, dtype, max_context, port, addresses)
    for path in write(site, output, forms, Images(image, coordinator_image), namespace, claim):
        typer.echo(path)


def _pair(given: str) -> tuple[str, str]:
    from thunderserve.spec.errors import SpecError

    node, equals, host = given.partition("=")
    if not (node and equals and host):
        raise SpecError("is not NODE=HOST", key="--node-address", value=given, remedy="write for example a=10.0.0.1")
    return node, host


def _site(
    plan: Path, model: str | None, device: str, dtype: str, max_context: int, port: int, addresses: dict[str, str]
) -> Site:
    from harness.deploy.site import Site
    from harness.plan.file import read_plan
    from thunderserve.engine.launch.plan import DEVICES, DTYPES
    from thunderserve.engine.vllm.arguments import Instance
    from thunderserve.spec.errors import SpecError, nearest
    from thunderserve.spec.load import load_cluster

    for key, value, known in (("--device", device, DEVICES), ("--dtype", dtype, DTYPES)):
        if value not in known:
            raise SpecError("is unknown", key=key, value=value, remedy=nearest(value, known))
    held = read_plan(plan)
    if model is None or ("/" not in model and not Path(model).is_dir()):
        raise SpecError(
            "is no checkpoint that vLLM can load", key="--model", value=model or held.model,
            remedy="say owner/model of a hub, or a folder that every node has",
        )  # fmt: skip
    cluster = (
        None if held.cluster is None else load_cluster(held.cluster, held.catalogue, beside=plan.parent, file=plan)
    )
    instance = Instance(model, model, dtype=dtype, device=device, max_context=max_context)
    return Site(held.plan, cluster, instance, port, addresses)
