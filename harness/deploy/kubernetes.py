"""Kubernetes manifests: a Deployment an instance, a LeaderWorkerSet where one spans nodes, and the coordinator before them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any, NamedTuple

from harness.deploy.site import MODELS, OWN_ADDRESS, RAY_PORT, Placed, Site
from harness.deploy.written import yaml

NODE_LABEL = "thunderserve/node"
"""Nodes carry under it their name in the plan's cluster."""
SHM = "8Gi"
POD_IP = {"name": OWN_ADDRESS.removeprefix("$"), "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
TOKEN = {
    "name": "HF_TOKEN",
    "valueFrom": {"secretKeyRef": {"name": "huggingface", "key": "token", "optional": True}},
}  # fmt: skip
HOME = {"name": "HF_HOME", "value": MODELS}
Manifest = dict[str, Any]


class Options(NamedTuple):
    """What only Kubernetes asks for."""

    image: str
    coordinator_image: str
    namespace: str = "thunderserve"
    claim: str = ""
    """A PersistentVolumeClaim with the models; empty: every pod fetches its own."""


def files(site: Site, options: Options) -> Iterator[tuple[str, str]]:
    """(path, content) of each. Raises SpecError for an instance that a LeaderWorkerSet cannot be."""
    resources = ["coordinator.yaml"]
    for placed in site.placed:
        workload = _set(site, placed, options) if placed.spans else _deployment(site, placed, options)
        yield f"kubernetes/{placed.name}.yaml", yaml(workload, _service(placed, options, site.port))
        resources.append(f"{placed.name}.yaml")
    yield "kubernetes/coordinator.yaml", yaml(*_front(site, options))
    generator = {"name": "plan", "files": ["plan.json"], "options": {"disableNameSuffixHash": True}}
    yield "kubernetes/kustomization.yaml", yaml({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "namespace": options.namespace,
        "resources": resources, "configMapGenerator": [generator],
    })  # fmt: skip


def _named(kind: str, version: str, name: str, options: Options, spec: Manifest) -> Manifest:
    labels = {"app.kubernetes.io/part-of": "thunderserve", "app.kubernetes.io/name": name}
    meta = {"name": name, "namespace": options.namespace, "labels": labels}
    return {"apiVersion": version, "kind": kind, "metadata": meta, "spec": spec}


def _service(placed: Placed, options: Options, port: int) -> Manifest:
    chosen = {"app.kubernetes.io/name": placed.name} | (
        {"leaderworkerset.sigs.k8s.io/worker-index": "0"} if placed.spans else {}
    )
    spec = {"selector": chosen, "ports": [{"name": "http", "port": port, "targetPort": "http"}]}
    return _named("Service", "v1", placed.name, options, spec)


def _deployment(site: Site, placed: Placed, options: Options) -> Manifest:
    part = placed.parts[0]
    argv = ["python3", *_argv(site, placed)]
    pod = _pod(site, placed, options, {"command": argv}, cards=len(part.cards), nodes=[part.node])
    labels = {"app.kubernetes.io/name": placed.name}
    spec = {
        "replicas": 1, "strategy": {"type": "Recreate"},  # a second instance would want the same cards
        "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod},
    }  # fmt: skip
    return _named("Deployment", "apps/v1", placed.name, options, spec)


def _set(site: Site, placed: Placed, options: Options) -> Manifest:
    """One pod a pipeline stage, all with as many cards; Ray between them, its head in the leader."""
    degree, nodes = placed.replica.stages[0].tp, [part.node for part in placed.parts]
    gpus = f"--num-gpus={degree}"
    head = shlex.join(["ray", "start", "--head", f"--port={RAY_PORT}", gpus, "--include-dashboard=false"])
    lead = {"command": ["bash", "-c", f'{head} && exec "$@"', "leader", "python3", *_argv(site, placed)]}
    join = ["ray", "start", f"--address=$(LWS_LEADER_ADDRESS):{RAY_PORT}", gpus, "--block"]
    labels = {"app.kubernetes.io/name": placed.name}

    def template(container: Manifest, *, leads: bool) -> Manifest:
        pod = _pod(site, placed, options, container, cards=degree, nodes=nodes, leads=leads)
        return {"metadata": {"labels": labels}, "spec": pod}

    both = {
        "size": len(placed.replica.stages), "restartPolicy": "RecreateGroupOnPodRestart",
        "leaderTemplate": template(lead, leads=True), "workerTemplate": template({"command": join}, leads=False),
    }  # fmt: skip
    spec = {"replicas": 1, "leaderWorkerTemplate": both}
    return _named("LeaderWorkerSet", "leaderworkerset.x-k8s.io/v1", placed.name, options, spec)


def _argv(site: Site, placed: Placed) -> list[str]:
    return site.argv(placed, listen="0.0.0.0", port=site.port, reached_at=OWN_ADDRESS)  # noqa: S104 - in its own pod


def _pod(
    site: Site, placed: Placed, options: Options, container: Manifest, *, cards: int, nodes: list[str], leads: bool = True
) -> Manifest:  # fmt: skip
    variables = site.environment(placed, placed.parts[0])
    variables.pop("CUDA_VISIBLE_DEVICES", None)  # a pod sees the cards that it was given
    given = [{"name": name, "value": value} for name, value in variables.items()]
    whole = {
        "name": "vllm", "image": options.image, **container, "env": [POD_IP, TOKEN, HOME, *given],
        "volumeMounts": [{"name": "models", "mountPath": MODELS}, {"name": "shm", "mountPath": "/dev/shm"}],  # noqa: S108
    }  # fmt: skip
    if leads:
        whole |= {"ports": [{"name": "http", "containerPort": site.port}]} | _probes("http", starting=1800)
    if site.on_gpus:
        whole["resources"] = {"limits": {"nvidia.com/gpu": cards}}
    models = {"persistentVolumeClaim": {"claimName": options.claim}} if options.claim else {"emptyDir": {}}
    wanted = {"key": NODE_LABEL, "operator": "In", "values": nodes}
    required = {"nodeSelectorTerms": [{"matchExpressions": [wanted]}]}
    return {
        "containers": [whole],
        "volumes": [
            {"name": "models", **models},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": SHM}},
        ],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}},
    }


def _probes(port: str, *, starting: int) -> Manifest:
    """Health at /health; so many seconds to come up."""
    asked = {"httpGet": {"path": "/health", "port": port}, "periodSeconds": 10, "timeoutSeconds": 5}
    return {
        "startupProbe": asked | {"failureThreshold": starting // 10},
        "readinessProbe": asked | {"failureThreshold": 3},
        "livenessProbe": asked | {"failureThreshold": 6},
    }


def _front(site: Site, options: Options) -> tuple[Manifest, Manifest]:
    """The coordinator. Not ready while it can serve nobody; alive as long as its port is open."""
    urls = [f"http://{placed.name}:{site.port}" for placed in site.placed]
    argv = site.serve(urls, plan="/plan/plan.json", listen="0.0.0.0", port=site.port)  # noqa: S104
    container = {
        "name": "coordinator", "image": options.coordinator_image, "command": argv, "env": [TOKEN, HOME],
        "ports": [{"name": "http", "containerPort": site.port}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 5},
        "startupProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 10, "failureThreshold": 180},
        "livenessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 10},
        "volumeMounts": [{"name": "plan", "mountPath": "/plan", "readOnly": True}],
    }  # fmt: skip
    labels = {"app.kubernetes.io/name": "coordinator"}
    pod = {"containers": [container], "volumes": [{"name": "plan", "configMap": {"name": "plan"}}]}
    spec = {
        "replicas": 1, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}
    }  # fmt: skip
    service = {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}
    return (
        _named("Deployment", "apps/v1", "coordinator", options, spec),
        _named("Service", "v1", "coordinator", options, service),
    )
