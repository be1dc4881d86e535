"""Docker Compose: one file for a single node; for several, one a node on the network of its host, and one for the coordinator."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from harness.deploy.shell import ray_start
from harness.deploy.site import MODELS, OWN_ADDRESS, RAY_PORT, Part, Placed, Site
from harness.deploy.written import yaml

CACHE = f"models:{MODELS}"
PLAN = "/deployment/plan.json"


def files(site: Site, images: tuple[str, str]) -> Iterator[tuple[str, str]]:
    """(path, content) of each; ``images`` of vLLM with this package, and of the coordinator. Raises SpecError."""
    if len(site.nodes) == 1:
        services = {one.name: _instance(site, one, one.parts[0], images[0], alone=True) for one in site.placed}
        urls = [f"http://{one.name}:{site.port}" for one in site.placed]
        front = _coordinator(site, urls, images[1]) | {"ports": [f"{site.port}:{site.port}"]}
        front["depends_on"] = {one.name: {"condition": "service_healthy"} for one in site.placed}
        yield "compose/compose.yaml", _file(services | {"coordinator": front})
        return
    for node in site.nodes:
        services = {
            _service(placed, part): _instance(site, placed, part, images[0], alone=False)
            for placed in site.placed
            for part in placed.parts
            if part.node == node
        }
        yield f"compose/{node}.yaml", _file(services)
    urls = [f"http://{site.address(one.parts[0].node)}:{site.port_of(one)}" for one in site.placed]
    front = _coordinator(site, urls, images[1]) | {"network_mode": "host"}
    yield "compose/coordinator.yaml", _file({"coordinator": front})


def _file(services: dict[str, Any]) -> str:
    mounts = [volume for service in services.values() for volume in service.get("volumes", ())]
    volumes: dict[str, Any] = {"volumes": {"models": {}}} if CACHE in mounts else {}
    return yaml({"name": "thunderserve", "services": services} | volumes)


def _service(placed: Placed, part: Part) -> str:
    place = placed.parts.index(part)
    return placed.name if place == 0 else f"{placed.name}-{place}"


def _instance(site: Site, placed: Placed, part: Part, image: str, *, alone: bool) -> dict[str, Any]:
    """A service. ``alone``: containers find each other by name, each at the same port; else they share their hosts' networks."""
    leads = part is placed.parts[0]
    variables = site.environment(placed, part)
    variables.pop("CUDA_VISIBLE_DEVICES", None)  # the reservation hands over these cards and no others
    found: dict[str, Any] = {"image": image, "shm_size": "8gb", "volumes": [CACHE], "restart": "unless-stopped"}
    port = site.port if alone else site.port_of(placed)
    if alone:
        command = ["python3", *site.argv(placed, listen="0.0.0.0", port=port, reached_at=placed.name)]  # noqa: S104
    else:
        found["network_mode"] = "host"
        command = _shared(site, placed, part, variables, port, leads=leads)
    if leads:
        found["healthcheck"] = {
            "test": ["CMD", "curl", "-fsS", f"http://{'127.0.0.1' if alone else site.address(part.node)}:{port}/health"],
            "interval": "5s", "timeout": "5s", "retries": 360,
        }  # fmt: skip
    if site.on_gpus:
        cards = [str(card) for card in part.cards]
        reserved = {"driver": "nvidia", "device_ids": cards, "capabilities": ["gpu"]}
        found["deploy"] = {"resources": {"reservations": {"devices": [reserved]}}}
    return found | {"entrypoint": [], "command": command, "environment": variables | {"HF_HOME": MODELS}}


def _shared(site: Site, placed: Placed, part: Part, variables: dict[str, str], port: int, *, leads: bool) -> list[str]:
    """The command on a host's network, with Ray where the instance spans hosts."""
    address, head = site.address(part.node), site.address(placed.parts[0].node)
    reached_at = OWN_ADDRESS if placed.spans else address
    argv = ["python3", *site.argv(placed, listen=address, port=port, reached_at=reached_at)]
    if not placed.spans:
        return argv
    variables["VLLM_HOST_IP"] = address
    ray = ray_start(placed, part, address, head, leads=leads)
    if not leads:
        return [*ray, "--block"]
    variables["RAY_ADDRESS"] = f"{head}:{RAY_PORT + placed.number}"
    return ["bash", "-c", f"{shlex.join(ray)} && exec {shlex.join(argv)}".replace("$", "$$")]


def _coordinator(site: Site, urls: list[str], image: str) -> dict[str, Any]:
    return {
        "image": image, "restart": "unless-stopped", "entrypoint": [],
        "command": site.serve(urls, plan=PLAN, listen="0.0.0.0", port=site.port),  # noqa: S104
        "volumes": [f"../plan.json:{PLAN}:ro", CACHE], "environment": {"HF_HOME": MODELS},
    }  # fmt: skip
