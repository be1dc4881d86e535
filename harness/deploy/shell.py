"""Shell scripts: one a node, and one for the coordinator."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from harness.deploy.site import OWN_ADDRESS, RAY_PORT, Part, Placed, Site

HEAD = """\
#!/usr/bin/env bash
# {what}
# Written by 'harness deploy'. Ends, and takes all that it has started with it, when one of them ends or at an interrupt.
set -euo pipefail
PYTHON="${{THUNDERSERVE_VLLM_PYTHON:-python3}}"   # of the environment that has vLLM and thunderserve
LOGS="${{LOGS:-logs}}"
mkdir -p "$LOGS"
trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT
"""
TAIL = """
wait -n   # whichever ends first
"""
COORDINATOR = """\
#!/usr/bin/env bash
# The coordinator: an OpenAI-compatible front that routes by the plan. Start it beside plan.json; it waits for the instances.
set -euo pipefail
cd "$(dirname "$0")/.."
exec \\
{command}
"""


def files(site: Site) -> Iterator[tuple[str, str]]:
    """(path, content) of each. Raises SpecError for a node without an address."""
    for node in site.nodes:
        yield f"shell/{node}.sh", _script(site, node)
    urls = [f"http://{site.address(one.parts[0].node)}:{site.port_of(one)}" for one in site.placed]
    command = site.serve(urls, plan="plan.json", listen="0.0.0.0", port=site.port)  # noqa: S104 - a front is for others
    yield "shell/coordinator.sh", COORDINATOR.format(command=_folded(command, "  "))


def _script(site: Site, node: str) -> str:
    parts = [
        _started(site, placed, part, leads=part is placed.parts[0])
        for placed in site.placed
        for part in placed.parts
        if part.node == node
    ]
    return HEAD.format(what=f"The instances of node {node}.") + "".join(parts) + TAIL


def _started(site: Site, placed: Placed, part: Part, *, leads: bool) -> str:
    log = f'"$LOGS/{placed.name}.log"'
    address, head = site.address(part.node), site.address(placed.parts[0].node)
    variables = site.environment(placed, part)
    if placed.spans:
        variables["VLLM_HOST_IP"] = address
    exports = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
    lines = [f"\n# {placed.words}\n"]
    if placed.spans:
        ray = [*ray_start(placed, part, address, head, leads=leads), "--block"]
        lines.append(f"env {exports} \\\n{_folded(ray, '  ')} >>{log} 2>&1 &\n")
    if placed.spans and leads:
        lines.append(
            f"until ray status --address={head}:{RAY_PORT + placed.number} >/dev/null 2>&1; do sleep 1; done\n"
        )
    if leads:
        reached_at = OWN_ADDRESS if placed.spans else address
        argv = site.argv(placed, listen=address, port=site.port_of(placed), reached_at=reached_at)
        where = f" RAY_ADDRESS={head}:{RAY_PORT + placed.number}" if placed.spans else ""
        lines.append(f'env {exports}{where} "$PYTHON" \\\n{_folded(argv, "  ")} >>{log} 2>&1 &\n')
    return "".join(lines)


def ray_start(placed: Placed, part: Part, address: str, head: str, *, leads: bool) -> list[str]:
    """Ray for an instance that spans nodes: a cluster of its own, whose head is where its first stage is."""
    port = RAY_PORT + placed.number
    common = [f"--num-gpus={len(part.cards)}", f"--node-ip-address={address}"]
    if leads:
        own = ["--head", f"--port={port}", "--include-dashboard=false"]
        return ["ray", "start", *own, *common]
    return ["ray", "start", f"--address={head}:{port}", *common]


def _folded(command: list[str], indent: str) -> str:
    """An option and its value a line."""
    lines: list[list[str]] = [[]]
    for word in command:
        if word.startswith("-"):
            lines.append([])
        lines[-1].append(shlex.quote(word))
    return " \\\n".join(indent + " ".join(line) for line in lines if line)
