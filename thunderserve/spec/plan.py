"""A deployment: which cards form which replicas, what each does, and who sends to whom."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Literal

from pydantic import Field, model_validator

from thunderserve.spec.cluster import Cluster
from thunderserve.spec.kv import RAW, KvCodec
from thunderserve.spec.model import ModelSpec
from thunderserve.spec.noun import Noun


class Phase(StrEnum):
    """What a replica serves. ``BOTH`` is colocated."""

    PREFILL = "prefill"
    DECODE = "decode"
    BOTH = "both"


class Batching(Noun):
    """How a replica forms its batches.

    ``chunked``: decodes first, the rest of ``max_batched_tokens`` filled with prefill chunks (vLLM V1, Sarathi).
    ``prefill_first``: whole prompts before any decode (vLLM V0). ``saturation``: prefill alone, prompts packed up to
    ``saturation_tokens`` (DistServe). ``continuous``: decode alone.
    """

    policy: Literal["chunked", "prefill_first", "saturation", "continuous"]
    max_sequences: int = Field(default=256, gt=0)
    """Sequences of one batch. A pipeline of S stages keeps S batches in flight (vLLM's meaning of ``max_num_seqs``)."""
    max_batched_tokens: int = Field(default=2048, gt=0)
    """New tokens of one step. A prompt longer than this still runs, alone, where the policy does not chunk."""
    saturation_tokens: int = Field(default=2048, gt=0)
    block_tokens: int = Field(default=16, gt=0)
    """Tokens of one KV block."""
    watermark: float = Field(default=0.01, ge=0, lt=1)
    """Share of the blocks that ``prefill_first`` keeps free when it admits a prompt (vLLM V0)."""

    @property
    def step_tokens(self) -> int:
        """New tokens of one step as its policy has them: ``saturation_tokens`` where prompts are packed."""
        return self.saturation_tokens if self.policy == "saturation" else self.max_batched_tokens


class Stage(Noun):
    """A tensor-parallel group that holds consecutive layers. TP degree is the number of its cards."""

    devices: tuple[int, ...] = Field(min_length=1)
    num_layers: int = Field(gt=0)

    @property
    def tp(self) -> int:
        """Tensor-parallel degree."""
        return len(self.devices)


class Replica(Noun):
    """One copy of the model: its stages in order, its phase, and how it batches."""

    stages: tuple[Stage, ...] = Field(min_length=1)
    phase: Phase
    batching: Batching

    @property
    def devices(self) -> tuple[int, ...]:
        """All cards, stage by stage."""
        return tuple(device for stage in self.stages for device in stage.devices)

    @property
    def first_layers(self) -> tuple[int, ...]:
        """The first layer of each stage."""
        starts, layer = [], 0
        for stage in self.stages:
            starts.append(layer)
            layer += stage.num_layers
        return tuple(starts)

    def describe(self) -> str:
        """``TP=2, PP=2``, or the degrees by stage where they differ."""
        degrees = [stage.tp for stage in self.stages]
        tp = str(degrees[0]) if len(set(degrees)) == 1 else "+".join(map(str, degrees))
        return f"TP={tp}, PP={len(self.stages)}"


class Flow(Noun):
    """A share of all requests: prefilled here, decoded there. Both indices are equal for a colocated replica."""

    prefill: int = Field(ge=0)
    decode: int = Field(ge=0)
    share: float = Field(ge=0, le=1)
    codec: KvCodec = RAW


Transfer = Literal["after_prefill", "layerwise"]
"""When keys and values leave: when the prompt is finished, or each layer as soon as it is computed (Splitwise, section 4.2)."""

Router = Literal["flows", "join_shortest_queue", "fewest_tokens", "least_kv"]


class Plan(Noun):
    """What a policy decides and a backend carries out.

    Refuses a card used twice, flows between the wrong phases, shares that do not sum to 1, and replicas nobody reaches.
    ``check`` holds it against a cluster and a model: cards that exist, layers that add up, weights that fit.
    """

    system: str
    replicas: tuple[Replica, ...] = Field(min_length=1)
    flows: tuple[Flow, ...] = Field(min_length=1)
    router: Router = "flows"
    transfer: Transfer = "after_prefill"
    """``flows`` keeps the shares; the others choose among the listed flows by load and ignore the shares."""
    notes: dict[str, str] = Field(default_factory=dict)
    """What the policy wants a reader to know: search effort, what it weighed."""

    @model_validator(mode="after")
    def _is_whole(self) -> Plan:
        used = [device for replica in self.replicas for device in replica.devices]
        if twice := sorted({device for device in used if used.count(device) > 1}):
            raise ValueError(f"devices {twice} are used twice")
        for flow in self.flows:
            self._check_flow(flow)
        if len({(flow.prefill, flow.decode) for flow in self.flows}) != len(self.flows):
            raise ValueError("two flows join the same pair of replicas")
        total = math.fsum(flow.share for flow in self.flows)
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the shares of the flows sum to {total:.6g}, not 1")
        return self

    def _check_flow(self, flow: Flow) -> None:
        last = len(self.replicas) - 1
        if max(flow.prefill, flow.decode) > last:
            raise ValueError(f"a flow names replica {max(flow.prefill, flow.decode)}, but the last one is {last}")
        ends = (self.replicas[flow.prefill].phase, self.replicas[flow.decode].phase)
        colocated = flow.prefill == flow.decode and ends == (Phase.BOTH, Phase.BOTH)
        split = flow.prefill != flow.decode and ends[0] is not Phase.DECODE and ends[1] is not Phase.PREFILL
        if not (colocated or split):
            raise ValueError(f"replica {flow.prefill} ({ends[0]}) cannot hand over to {flow.decode} ({ends[1]})")

    def check(self, cluster: Cluster, model: ModelSpec) -> None:
        """Raise ValueError, in words, if ``cluster`` cannot hold the plan for ``model`` (weights alone counted)."""
        for index, replica in enumerate(self.replicas):
            layers = sum(stage.num_layers for stage in replica.stages)
            if layers != model.num_layers:
                raise ValueError(f"replica {index} holds {layers} layers, but {model.name} has {model.num_layers}")
            for number, stage in enumerate(replica.stages):
                self._check_stage(f"replica {index}, stage {number}", stage, number, replica, cluster, model)

    @staticmethod
    def _check_stage(
        where: str, stage: Stage, number: int, replica: Replica, cluster: Cluster, model: ModelSpec
    ) -> None:
        if missing := [device for device in stage.devices if device >= len(cluster.devices)]:
            raise ValueError(f"{where} uses device {missing[0]}, but {cluster.name} has {len(cluster.devices)} devices")
        parameters = stage.num_layers * model.layer_parameters
        parameters += model.embedding_parameters if number == 0 else 0
        if number == len(replica.stages) - 1:
            # A pipeline's last stage needs its own copy of a tied matrix.
            tied = model.vocab_size * model.hidden_size if model.tied_embeddings and number > 0 else 0
            parameters += model.head_parameters + tied
        share = parameters * model.dtype_bytes / stage.tp
        for device in stage.devices:
            memory = cluster.gpu(device).memory_bytes
            if share > memory:
                name = cluster.devices[device].gpu
                raise ValueError(
                    f"{where}: device {device} ({name}) is {(share - memory) / 1e9:.1f} GB short: "
                    f"{share / 1e9:.1f} GB of weights, {memory / 1e9:.1f} GB of memory"
                )
