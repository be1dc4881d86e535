"""All files of a deployment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from harness.deploy import compose, images, kubernetes, shell
from harness.deploy.site import Site
from harness.store import atomic

WORDS = """\
# A deployment of a plan of '{plan}'

{instances}

The model is `{model}`, the front speaks OpenAI's HTTP interface at port {port}, `GET /health` says who is there.

{forms}
"""
FORMS = {
    "shell": "**shell**: `bash shell/NODE.sh` on every node, `bash shell/coordinator.sh` on one of them or elsewhere.",
    "compose": "**compose**: `docker compose -f compose/FILE.yaml up -d`, on each node its own file; images from `images/`.",
    "kubernetes": (
        "**kubernetes**: label the nodes, `kubectl label node NAME thunderserve/node=NODE` with NODE one of {nodes}; then "
        "`kubectl create namespace {namespace}; kubectl apply -k kubernetes`. LeaderWorkerSet must be installed where an "
        "instance spans nodes; the secret `huggingface` (key `token`) is used if it is there."
    ),
}


class Images(NamedTuple):
    """Names of the two."""

    vllm: str
    coordinator: str


def write(site: Site, output: Path, forms: Sequence[str], names: Images, namespace: str, claim: str) -> Iterator[Path]:
    """Write each file and give its path. Raises SpecError before anything is written."""
    found = dict(_files(site, forms, names, namespace, claim))
    for name, text in found.items():
        path = output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_text(path, text)
        if path.suffix == ".sh":
            path.chmod(0o755)
        yield path


def _files(site: Site, forms: Sequence[str], names: Images, namespace: str, claim: str) -> Iterator[tuple[str, str]]:
    text = site.plan.model_dump_json(indent=1) + "\n"  # without its cluster, whose links 'harness serve' would imitate
    yield "plan.json", text
    if "shell" in forms:
        yield from shell.files(site)
    if "compose" in forms:
        yield from compose.files(site, names)
    if "kubernetes" in forms:
        options = kubernetes.Options(names.vllm, names.coordinator, namespace, claim)
        yield from kubernetes.files(site, options)
        yield "kubernetes/plan.json", text
    if {"compose", "kubernetes"} & set(forms):
        yield from images.files(*names).items()
    told = "\n\n".join(FORMS[one] for one in forms).format(nodes=", ".join(site.nodes), namespace=namespace)
    yield "README.md", WORDS.format(
        plan=site.plan.system, instances="\n".join(f"- {one.words}" for one in site.placed), model=site.instance.name,
        port=site.port, forms=told,
    )  # fmt: skip
