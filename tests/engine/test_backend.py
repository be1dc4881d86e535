"""The ``engine`` backend: plans of a tiny model, carried out by real worker processes."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from thunderserve.backend import Deployment
from thunderserve.cost.codec import CodecSpeed
from thunderserve.cost.step_table import StepTable
from thunderserve.engine.backend import Real, prompt_of
from thunderserve.engine.checkpoint.tiny import tiny
from thunderserve.serving.records import Status
from thunderserve.spec.kv import INT4, RAW, KvCodec
from thunderserve.spec.load import load_cluster
from thunderserve.spec.model import ModelSpec
from thunderserve.spec.plan import Batching, Flow, Phase, Plan, Replica, Stage
from thunderserve.spec.trace import Trace

TRACE = Trace(np.array([0.0, 0.05, 0.1, 0.1, 0.4]), np.array([20, 3, 100, 7, 40]), np.array([6, 1, 12, 30, 2]))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    """The shapes of the tiny Llama, under the folder where it is found."""
    folder = tiny(tmp_path_factory.mktemp("backend") / "llama", "llama")
    return ModelSpec(
        name=str(folder), num_layers=3, hidden_size=64, intermediate_size=128, num_heads=4, num_kv_heads=2, head_dim=16,
        vocab_size=264, max_context=2048, dtype_bytes=4,
    )  # fmt: skip


def replica(device: int, phase: Phase) -> Replica:
    policy = {Phase.PREFILL: "saturation", Phase.DECODE: "continuous", Phase.BOTH: "chunked"}[phase]
    return Replica(stages=(Stage(devices=(device,), num_layers=3),), phase=phase, batching=Batching(policy=policy))


def split(codec: KvCodec) -> Plan:
    return Plan(
        system="split", replicas=(replica(0, Phase.PREFILL), replica(1, Phase.DECODE)),
        flows=(Flow(prefill=0, decode=1, share=1, codec=codec),),
    )  # fmt: skip


COLOCATED = Plan(
    system="colocated", replicas=(replica(0, Phase.BOTH), replica(1, Phase.BOTH)),
    flows=(Flow(prefill=0, decode=0, share=0.5), Flow(prefill=1, decode=1, share=0.5)),
)  # fmt: skip


LAYERWISE = split(RAW).model_copy(update={"transfer": "layerwise"})
TENSOR_PARALLEL = Plan(
    system="tensor parallel", flows=(Flow(prefill=0, decode=0, share=1),),
    replicas=(Replica(stages=(Stage(devices=(0, 1), num_layers=3),), phase=Phase.BOTH, batching=Batching(policy="chunked")),),
)  # fmt: skip


@pytest.mark.parametrize(
    "plan",
    [split(RAW), split(INT4), LAYERWISE, COLOCATED, TENSOR_PARALLEL],
    ids=["split-raw", "split-int4", "layerwise", "colocated", "tensor-parallel"],
)
def test_a_trace_is_served_in_real_time(model: ModelSpec, plan: Plan) -> None:
    served = Real().serve(Deployment(plan, load_cluster("local-2"), model), TRACE)
    records = served.records
    assert records.status.tolist() == [Status.FINISHED] * 5
    np.testing.assert_array_equal(records.arrival_s, TRACE.arrival_s)
    np.testing.assert_array_equal(records.output_tokens, TRACE.output_tokens)
    assert (records.arrival_s <= records.prefill_start_s).all()
    assert (records.prefill_start_s <= records.first_token_s).all()
    several = TRACE.output_tokens > 1
    assert (records.first_token_s[several] < records.finish_s[several]).all()
    assert (records.first_token_s[~several] == records.finish_s[~several]).all()
    assert served.counters["reruns"] == 0
    if plan.system != "split":
        assert set(records.prefill_replica.tolist()) == set(range(len(plan.replicas)))
        assert np.isnan(records.transfer_s).all()
    else:
        assert (records.transfer_s[several] > 0).all()
        assert records.decode_replica[several].tolist() == [1] * 4
        ahead_s = records.first_token_s[several] - records.transfer_start_s[several]
        if plan.transfer == "layerwise":
            assert (ahead_s > 0).any()
        else:
            assert (ahead_s < 0.02).all()  # a client hears of its token a little later


class Known:
    """A cost source whose steps take a second and half a second more a token."""

    def step_table(self, *_: object, **__: object) -> StepTable:
        one, two = np.array([1]), np.array([1, 2])
        nothing = np.zeros((1, 1))
        return StepTable(
            fixed_s=np.ones(1), token_knots=two, token_s=np.array([[0.5, 1.0]]), logit_knots=one, logit_s=nothing,
            batch_knots=one, context_knots=one, decode_s=np.zeros((1, 1, 1)), chunk_knots=one, pair_s=nothing,
            chunk_s=np.zeros(1), hop_s=np.zeros(1), hop_s_per_token=np.zeros(1),
        )  # fmt: skip

    def codec_speed(self, codec: KvCodec) -> CodecSpeed:
        raise AssertionError(f"the seconds of steps need no codec, and {codec.name} was asked for")


def test_steps_are_held_against_the_cost_model(model: ModelSpec) -> None:
    counters = Real(Known()).serve(Deployment(split(RAW), load_cluster("local-2"), model), TRACE).counters
    # Every prompt token is computed once, and of an answer all but its last; no warm-up is among them.
    tokens = TRACE.prompt_tokens.sum() + (TRACE.output_tokens - 1).sum()
    modelled_s = counters["prefill_step_model_s"] + counters["decode_step_model_s"]
    assert modelled_s == pytest.approx(counters["steps"] + 0.5 * tokens)
    assert 0 < counters["prefill_step_s"] < counters["prefill_step_model_s"]
    assert 0 < counters["decode_step_s"] < counters["decode_step_model_s"]


def test_a_token_that_the_model_does_not_have_is_refused_and_harms_nobody(model: ModelSpec) -> None:
    wrong = model.model_copy(update={"vocab_size": 10_000})
    small = Trace(TRACE.arrival_s[:2], TRACE.prompt_tokens[:2] * 10, TRACE.output_tokens[:2])
    served = Real(warm=False).serve(Deployment(COLOCATED, load_cluster("local-2"), wrong), small)
    assert served.records.status.tolist() == [Status.REJECTED] * 2
    assert served.counters["reruns"] == 0


def test_a_model_that_is_not_there_is_told_of(model: ModelSpec) -> None:
    absent = model.model_copy(update={"name": "smollm-9"})
    with pytest.raises(ValueError, match="no such model"):
        Real().serve(Deployment(COLOCATED, load_cluster("local-2"), absent), TRACE)


def test_prompts_belong_to_their_requests() -> None:
    assert prompt_of(3, 5, 100) == prompt_of(3, 5, 100)
    assert len({prompt_of(number, 8, 1000) for number in range(100)}) == 100
    assert all(0 <= token < 50 for token in prompt_of(1, 200, 50))


def test_a_plan_beyond_this_engine_is_refused(model: ModelSpec) -> None:
    wide = Replica(
        stages=(Stage(devices=(0, 1, 2), num_layers=3),), phase=Phase.BOTH, batching=Batching(policy="chunked")
    )
    plan = Plan(system="wide", replicas=(wide,), flows=(Flow(prefill=0, decode=0, share=1),))
    with pytest.raises(ValueError, match="3 does not divide the model's 2 KV heads"):
        Real().serve(Deployment(plan, load_cluster("cloud-8-a40-3090ti-5gbit"), model), TRACE)
