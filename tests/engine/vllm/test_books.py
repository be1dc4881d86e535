"""Settings, parameters, shards, the scheduler's ledger, the guard, vLLM's arguments and figures."""

from __future__ import annotations

import itertools
import json
from abc import ABC, abstractmethod
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunderserve.engine.vllm import arguments, figures, guard
from thunderserve.engine.vllm.arguments import Instance
from thunderserve.engine.vllm.launch import Fleet, interpreter
from thunderserve.engine.vllm.ledger import Hold, Ledger
from thunderserve.engine.vllm.options import AttendantOptions
from thunderserve.engine.vllm.remote import PREFILL, Remote, Way, remote_from
from thunderserve.engine.vllm.settings import Settings, settings_from
from thunderserve.engine.vllm.shard import Kind, Rank, Shard, heads_of, pieces, readers
from thunderserve.spec.errors import SpecError
from thunderserve.spec.plan import Plan

KIND = Kind(30, 3, 64, "float32")
BATCHING = {"policy": "chunked"}
RANK = Rank("127.0.0.1", 9000, Shard((0, 30), (0, 3)))


def plan_of(*phases: str, devices: int = 1) -> Plan:
    replicas = [
        {
            "stages": [{"devices": list(range(devices * n, devices * (n + 1))), "num_layers": 30}],
            "phase": phase,
            "batching": BATCHING,
        }
        for n, phase in enumerate(phases)
    ]
    flows = (
        [{"prefill": 0, "decode": 1, "share": 1.0}] if len(phases) == 2 else [{"prefill": 0, "decode": 0, "share": 1.0}]
    )
    return Plan.model_validate({"system": "by hand", "replicas": replicas, "flows": flows})


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"codek": "int4"}, "codec"),
        ({"codec": "int44"}, "int4"),
        ({"lease_s": 0}, "positive"),
        ({"lease_s": "long"}, "type float"),
        ({"retries": True}, ""),
        ({"transport": "rdma"}, "tcp"),
        ({"link_gbit": -1}, "0 or more"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_words(wrong: dict[str, Any], words: str) -> None:
    if words:
        with pytest.raises(ValueError, match=words):
            settings_from(wrong)
    assert settings_from(Settings(codec="int4").written()) == Settings(codec="int4")


@given(
    layers=st.integers(1, 12), heads=st.sampled_from([1, 2, 3, 4, 6, 8]), ours=st.integers(1, 3),
    stages=st.tuples(st.integers(1, 4), st.integers(1, 4)), ranks=st.tuples(st.integers(1, 8), st.integers(1, 8)),
)  # fmt: skip
def test_every_layer_of_every_head_is_asked_for_once(
    layers: int, heads: int, ours: int, stages: tuple[int, int], ranks: tuple[int, int]
) -> None:
    def grid(stage_count: int, rank_count: int) -> list[Shard] | None:
        cuts = sorted({layers * n // stage_count for n in range(stage_count + 1)})
        try:
            sides = [heads_of(rank, rank_count, heads) for rank in range(rank_count)]
        except ValueError:
            return None
        return [Shard((a, b), side) for a, b in itertools.pairwise(cuts) for side in sides]

    theirs, mine = grid(stages[0], ranks[0]), grid(stages[1], ranks[1])
    if theirs is None or mine is None:
        return
    sources = [Rank("h", n, shard) for n, shard in enumerate(theirs)]
    asked = [0] * len(sources)
    for shard in mine:
        seen: set[tuple[int, int]] = set()
        for source, part in pieces(sources, shard):
            asked[source] += 1
            assert sources[source].shard.common(part) == part
            for layer in range(*part.layers):
                for head in range(*part.heads):
                    assert (layer, head) not in seen
                    seen.add((layer, head))
        assert len(seen) == shard.size
    assert asked == [readers(sources, mine, source) for source in range(len(sources))]


def test_sources_that_lack_a_layer_are_named() -> None:
    with pytest.raises(ValueError, match="do not have all"):
        pieces([Rank("h", 1, Shard((0, 2), (0, 1)))], Shard((0, 3), (0, 1)))


def test_parameters_survive_json() -> None:
    remote = Remote("cmpl-1", 75, Way("int4", 32, 2e7, 0.005), KIND, (RANK, RANK._replace(port=9001)))
    assert remote_from(json.loads(json.dumps(remote.written("e")))) == remote
    with pytest.raises(ValueError, match="not those of a ThunderServe prefill instance"):
        remote_from({"do_remote_prefill": True, "remote_block_ids": [1]})


def test_a_request_goes_through_the_ledgers_of_both_sides() -> None:
    prefill, decode = Ledger("p", KIND, (RANK,)), Ledger("d", KIND, (RANK,))
    keep, params = prefill.finished("r", dict(PREFILL) | {"codec": "int4"}, [4, 5], 40, whole=True)
    assert keep
    assert params is not None
    assert prefill.orders(idle=True).holds == (Hold("r", (4, 5), 40),)
    assert prefill.orders(idle=False).holds == ()
    params = json.loads(json.dumps(params))
    assert decode.matched(params, 41, 0) == 40  # with the first token of the answer
    assert decode.matched(params, 40, 16) == 24  # the very prompt, of which a block is there already
    decode.allocated("r", params, [7, 8], 41, 40)
    (load,) = decode.orders(idle=False).loads
    assert (load.blocks, load.first, load.tokens, load.remote.way.codec) == ((7, 8), 0, 40, "int4")
    assert decode.matched(params, 60, 0) == 0  # preempted: computed again here
    assert decode.finished("r", params, [7, 8], 60, whole=True) == (False, None)


def test_aborted_and_foreign_requests_hold_nothing() -> None:
    ledger = Ledger("p", KIND, (RANK,))
    assert ledger.finished("r", dict(PREFILL), [1], 9, whole=False) == (False, None)
    assert ledger.finished("r", None, [1], 9, whole=True) == (False, None)
    assert ledger.finished("r", dict(PREFILL) | {"link": "slow"}, [1], 9, whole=True) == (False, None)
    foreign = {"do_remote_prefill": True, "remote_block_ids": [1]}
    assert ledger.matched(foreign, 9, 0) == 0
    assert foreign["do_remote_prefill"] is False
    waiting = Remote("r", 9, Way(), KIND, (RANK,)).written("e")
    ledger.finished("d", waiting, [], 0, whole=False)  # aborted before it was scheduled
    (load,) = ledger.orders(idle=True).loads
    assert load.first == load.tokens == 0


def base_like(**changes: Any) -> type[Any]:
    """A class with vLLM's interface as it was tested, or changed."""

    def made(name: str, parameters: tuple[str, ...]) -> Any:
        scope: dict[str, Any] = {}
        exec(f"def {name}({', '.join(parameters)}): ...", scope)
        return scope[name]

    signatures = guard.SIGNATURES | dict.fromkeys(guard.ABSTRACT - set(guard.SIGNATURES), ("self",)) | changes
    body = {name: made(name, parameters) for name, parameters in signatures.items() if parameters}
    body |= {name: abstractmethod(body[name]) for name in guard.ABSTRACT if name in body}
    return type("Base", (ABC,), body)


def test_the_guard_knows_the_interface_and_says_what_differs() -> None:
    assert guard.check("0.32.0+cpu", base_like()) == ""
    assert "not with 0.33.1" in guard.check("0.33.1", base_like())
    with pytest.raises(RuntimeError, match=r"vLLM 0\.40\.0 differs: get_finished takes \(self\)"):
        guard.check("0.40.0", base_like(get_finished=("self",)))
    with pytest.raises(RuntimeError, match="does not know request_finished"):
        guard.check("0.40.0", base_like(request_finished=()))
    more = base_like()
    more = type("More", (more,), {"stream_kv": abstractmethod(lambda self: None)})
    with pytest.raises(RuntimeError, match="wants stream_kv"):
        guard.check("0.40.0", more)


def test_arguments_of_a_split_plan_and_of_a_colocated_one() -> None:
    split, alone = plan_of("prefill", "decode"), plan_of("both")
    instance = Instance("/models/m", "m", settings=Settings(codec="int4"))
    line = arguments.arguments(split.replicas[1], instance, split, host="127.0.0.1", port=8101)
    config = json.loads(line[line.index("--kv-transfer-config") + 1])
    assert config["kv_role"] == "kv_both"
    assert settings_from(config["kv_connector_extra_config"]).codec == "int4"
    assert line[line.index("--block-size") + 1] == "32"
    assert "--kv-transfer-config" not in arguments.arguments(alone.replicas[0], instance, alone, host="h", port=1)
    gpu = Instance("owner/m", "m", device="cuda", dtype="bfloat16")
    two = plan_of("both", devices=2)
    line = arguments.arguments(two.replicas[0], gpu, two, host="h", port=1, nodes=2)
    assert line[line.index("--tensor-parallel-size") + 1] == "2"
    assert line[line.index("--distributed-executor-backend") + 1] == "ray"
    assert "--enforce-eager" not in line


def test_a_fleet_refuses_what_vllm_cannot_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecError, match="2 instances are named"):
        Fleet(plan_of("both"), Instance("m", "m"), urls=("http://a", "http://b"))
    monkeypatch.setenv("THUNDERSERVE_VLLM_PYTHON", "/nowhere/python")
    with pytest.raises(SpecError, match="make vllm-env"):
        interpreter()
    uneven = plan_of("both", devices=3).replicas[0].model_dump(mode="json")
    uneven["stages"] = [{"devices": [0, 1], "num_layers": 20}, {"devices": [2], "num_layers": 10}]
    flow = {"prefill": 0, "decode": 0, "share": 1.0}
    plan = Plan.model_validate({"system": "by hand", "replicas": [uneven], "flows": [flow]})
    with pytest.raises(SpecError, match="one TP degree"):
        Fleet(plan, Instance("m", "m"))


def test_options_survive_their_journey() -> None:
    options = AttendantOptions(1, ("127.0.0.1", 5), "m", "http://h:1", command=("python", "-m", "x"), cores=(0, 1))
    assert AttendantOptions.from_json(options.to_json()) == options


def test_figures_are_read_from_a_page_as_vllm_writes_it() -> None:
    page = """# HELP vllm:prompt_tokens_by_source_total Prompt tokens.
# TYPE vllm:prompt_tokens_by_source_total counter
vllm:prompt_tokens_by_source_total{engine="0",model_name="m",source="local_compute"} 25.0
vllm:prompt_tokens_by_source_total{engine="0",model_name="m",source="external_kv_transfer"} 9981.0
vllm:num_requests_running{engine="0",model_name="m"} 2.0
vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} 1.0
vllm:request_success_total{engine="0",finished_reason="length",model_name="m"} 2.0
vllm:cache_config_info{block_size="32",num_gpu_blocks="682"} 1.0
"""
    found = figures.read(page)
    assert found[figures.EXTERNAL] == 9981
    assert found["vllm:request_success_total"] == 3
    assert (found["num_gpu_blocks"], found["block_size"]) == (682, 32)
    assert figures.kept(found, {figures.EXTERNAL: 9000.0})[figures.EXTERNAL] == 981
