"""A plan written out as scripts, Compose files and Kubernetes manifests: what schemas, shells and the plan itself say of them."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from harness.cli.main import app
from harness.deploy.site import Site
from harness.deploy.write import Images, write
from thunderserve.engine.vllm import arguments
from thunderserve.engine.vllm.arguments import Instance
from thunderserve.engine.vllm.settings import settings_from
from thunderserve.spec.errors import SpecError
from thunderserve.spec.load import load_cluster
from thunderserve.spec.plan import Batching, Flow, Phase, Plan, Replica, Stage

MODEL, KUBERNETES = "owner/model", "1.30.0"
ADDRESSES = {"a40": "10.0.0.1", "3090ti": "10.0.0.2"}
LWS_GROUP = {"size", "leaderTemplate", "workerTemplate", "restartPolicy"}
"""Fields of a LeaderWorkerSet that are used; its CRD is in no package that we could find."""


def replica(phase: Phase, *stages: tuple[int, ...]) -> Replica:
    policy = {Phase.PREFILL: "saturation", Phase.DECODE: "continuous"}[phase]
    cut = tuple(Stage(devices=devices, num_layers=60 // len(stages)) for devices in stages)
    return Replica(stages=cut, phase=phase, batching=Batching(policy=policy))  # type: ignore[arg-type]


def plan(*replicas: Replica) -> Plan:
    flows = tuple(Flow(prefill=0, decode=i, share=1 / (len(replicas) - 1)) for i in range(1, len(replicas)))
    return Plan(system="by hand", replicas=replicas, flows=flows)


SPANNING = plan(
    replica(Phase.PREFILL, (0, 1)), replica(Phase.DECODE, (2, 3), (4, 5)), replica(Phase.DECODE, (6, 7))
)  # fmt: skip
SINGLE = plan(replica(Phase.PREFILL, (0, 1)), replica(Phase.DECODE, (2, 3)))
NAMES = Images("vllm:1", "front:1")
FORMS = ("shell", "compose", "kubernetes")


def site(of: Plan, device: str = "cuda") -> Site:
    cluster = load_cluster("cloud-8-a40-3090ti-5gbit")
    addresses = ADDRESSES if of is SPANNING else {}
    return Site(of, cluster, Instance(MODEL, MODEL, dtype="bfloat16", device=device), 8000, addresses)


@pytest.fixture(params=["spanning", "single"])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Site, Path]:
    made = site(SPANNING if request.param == "spanning" else SINGLE)
    assert all(path.is_file() for path in write(made, tmp_path, FORMS, NAMES, "serving", "models"))
    return made, tmp_path


def documents(folder: Path) -> Iterator[tuple[Path, Any]]:
    for path in sorted(folder.glob("*.yaml")):
        for one in YAML(typ="safe").load_all(path):
            yield path, one


def test_compose_files_follow_the_specification(written: tuple[Site, Path]) -> None:
    text = (files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json").read_text()
    found = list(documents(written[1] / "compose"))
    assert found
    for _, one in found:
        jsonschema.validate(one, json.loads(text))


def test_manifests_follow_kubernetes_schemas(written: tuple[Site, Path]) -> None:
    validate = pytest.importorskip("kubernetes_validate").validate
    for path, one in documents(written[1] / "kubernetes"):
        if one["kind"] == "LeaderWorkerSet":
            group = one["spec"]["leaderWorkerTemplate"]
            assert set(group) == LWS_GROUP
            assert group["size"] == 2
            for name in ("leaderTemplate", "workerTemplate"):
                validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, **pod(group[name])}, KUBERNETES)
        elif one["kind"] != "Kustomization":
            validate(one, KUBERNETES, strict=True)
        if one["kind"] == "Service":
            assert one["spec"]["selector"]["app.kubernetes.io/name"] in {path.stem, "coordinator"}


def pod(template: dict[str, Any]) -> dict[str, Any]:
    return {"spec": template["spec"]}


def test_every_file_of_the_kustomization_is_there(written: tuple[Site, Path]) -> None:
    folder = written[1] / "kubernetes"
    kustomization = YAML(typ="safe").load(folder / "kustomization.yaml")
    named = {*kustomization["resources"], *kustomization["configMapGenerator"][0]["files"], "kustomization.yaml"}
    assert named == {path.name for path in folder.iterdir()}
    served = Plan.model_validate_json((folder / "plan.json").read_text())
    assert served == written[0].plan


def test_scripts_are_good_shell(written: tuple[Site, Path]) -> None:
    scripts = sorted((written[1] / "shell").glob("*.sh"))
    assert scripts
    for script in scripts:
        subprocess.run(["bash", "-n", script], check=True)
        assert script.stat().st_mode & 0o111
    checker = shutil.which("shellcheck", path=Path(sys.executable).parent)
    if checker is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([checker, "--severity=warning", *scripts], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stdout


def argvs(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """(form, command of an instance after its interpreter), wherever one is written."""
    for path in (folder / "shell").glob("*.sh"):
        for command in re.sub(r"\\\n", " ", path.read_text()).splitlines():
            words = shlex.split(command.partition(" >>")[0]) if "vllm.entrypoints" in command else []
            if words:
                yield "shell", words[words.index("-m") :]
    for path, one in [*documents(folder / "compose"), *documents(folder / "kubernetes")]:
        for command in commands(one):
            words = (
                shlex.split(command[-1].replace("$$", "$"))
                if command[:2] == ["bash", "-c"] and len(command) == 3
                else command
            )
            if "vllm.entrypoints.openai.api_server" in words:
                yield path.parent.name, [word.replace("$$", "$") for word in words[words.index("-m") :]]


def commands(content: Any) -> Iterator[list[str]]:
    if isinstance(content, dict):
        if isinstance(content.get("command"), list):
            yield content["command"]
        content = list(content.values())
    if isinstance(content, list):
        for one in content:
            yield from commands(one)


WHERE = re.compile(r"--host \S+ --port \S+|\"host\":\"[^\"]*\"")


def test_every_form_starts_the_same_instances(written: tuple[Site, Path]) -> None:
    made, folder = written
    meant = [
        arguments.arguments(one.replica, made.instance, made.plan, host="h", port=1, nodes=len(one.parts))
        for one in made.placed
    ]
    wanted = sorted(WHERE.sub("", " ".join(argv)) for argv in meant)
    for form in FORMS:
        found = sorted(WHERE.sub("", " ".join(argv)) for name, argv in argvs(folder) if name == form)
        assert found == wanted, form


def test_the_connector_accepts_what_is_written(written: tuple[Site, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_HOST_IP", "10.1.2.3")
    known = {"10.1.2.3", "127.0.0.1", *ADDRESSES.values(), "replica-0", "replica-1"}
    for form, argv in argvs(written[1]):
        config = json.loads(argv[argv.index("--kv-transfer-config") + 1])
        host = settings_from(config["kv_connector_extra_config"]).host
        assert host in ({"10.1.2.3"} if form == "kubernetes" else known)


def test_cards_are_numbered_within_their_node() -> None:
    assert [[part[:] for part in one.parts] for one in site(SPANNING).placed] == [
        [("a40", (0, 1))], [("a40", (2, 3)), ("3090ti", (0, 1))], [("3090ti", (2, 3))],
    ]  # fmt: skip


def test_nodes_whose_order_vllm_does_not_keep_have_to_be_alike() -> None:
    cluster = load_cluster("cloud-32")
    first = {node: next(d.id for d in cluster.devices if d.node == node) for node in cluster.nodes}
    places = [(first[node],) for node in list(first)[:4]]
    alike = len({cluster.devices[place].gpu for (place,) in places[1:]}) == 1
    wide = replica(Phase.DECODE, *places)
    other = next(d.id for d in cluster.devices if (d.id,) not in places)
    both = plan(replica(Phase.PREFILL, (other,)), wide)
    instance = Instance(MODEL, MODEL, device="cuda")
    if alike:
        Site(both, cluster, instance)
    uneven = wide.model_copy(update={"stages": (*wide.stages[:-1], Stage(devices=places[-1], num_layers=16))})
    with pytest.raises(SpecError, match="vLLM does not keep their order"):
        Site(plan(both.replicas[0], uneven), cluster, instance)


def test_no_two_servers_of_a_node_share_a_port() -> None:
    made = site(SPANNING)
    ports = [(one.parts[0].node, made.port_of(one)) for one in made.placed]
    assert ports == [("a40", 8001), ("a40", 8002), ("3090ti", 8001)]


def test_on_cpus_no_card_is_asked_for(tmp_path: Path) -> None:
    list(write(site(SINGLE, "cpu"), tmp_path, FORMS, NAMES, "serving", ""))
    text = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert "nvidia" not in text
    assert "CUDA" not in text


def test_an_unset_variable_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_HOST_IP", raising=False)
    with pytest.raises(ValueError, match="not set where the rank runs"):
        settings_from({"host": "$VLLM_HOST_IP"})


def test_a_node_without_an_address_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    made = Site(SPANNING, load_cluster("cloud-8-a40-3090ti-5gbit"), Instance(MODEL, MODEL, device="cuda"))
    with pytest.raises(SpecError, match="add --node-address a40=HOST"):
        list(write(made, tmp_path, FORMS, NAMES, "serving", ""))
    assert not list(tmp_path.iterdir())
    assert list(write(made, tmp_path, ("kubernetes",), NAMES, "serving", ""))


WRONG = {
    ("--format", "swarm"): "--format: no such format (got 'swarm')",
    ("--node-address", "a40"): "--node-address: is not NODE=HOST (got 'a40')",
    ("--model", "llama-30b"): "--model: is no checkpoint that vLLM can load (got 'llama-30b')",
    ("--device", "tpu"): "--device: is unknown (got 'tpu')",
}


@pytest.mark.parametrize(("given", "words"), WRONG.items())
def test_wrong_options_are_told(tmp_path: Path, given: tuple[str, str], words: str) -> None:
    file = tmp_path / "plan.json"
    file.write_text(SINGLE.model_dump_json())
    base = [] if given[0] == "--model" else ["--model", MODEL]
    found = CliRunner().invoke(app, ["deploy", str(file), "-o", str(tmp_path / "out"), *base, *given])
    assert words in str(found.exception)


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    file.write_text(SINGLE.model_dump_json())
    runner, line = CliRunner(), ["deploy", str(file), "-o", str(tmp_path), "--model", MODEL]
    assert "is not empty" in str(runner.invoke(app, line).exception)
    done = runner.invoke(app, [*line, "--force"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "compose" / "compose.yaml").is_file()
