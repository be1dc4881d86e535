"""The connector as vLLM loads it: ``kv_connector`` is ``ThunderServeConnector``, ``kv_connector_module_path`` this module's name.

A thin face: what it does is done by ``ledger.py`` in vLLM's scheduler and by ``source.py`` and ``sink.py`` in its workers.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import vllm
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorHandshakeMetadata,
    KVConnectorMetadata,
    KVConnectorRole,
)
from vllm.v1.request import RequestStatus

from thunderserve.engine.transfer.warm import warm_up
from thunderserve.engine.vllm import guard
from thunderserve.engine.vllm.layout import Layout, beside, measured
from thunderserve.engine.vllm.ledger import Ledger, Orders
from thunderserve.engine.vllm.probe import cpu_write, measure
from thunderserve.engine.vllm.settings import settings_from
from thunderserve.engine.vllm.shard import Kind, Rank, Shard, heads_of
from thunderserve.engine.vllm.sink import Sink
from thunderserve.engine.vllm.source import Source
from thunderserve.kv.wire.arrays import FORMATS

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.forward_context import ForwardContext
    from vllm.v1.attention.backend import AttentionMetadata
    from vllm.v1.core.kv_cache_manager import KVCacheBlocks
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.kv_cache_interface import KVCacheConfig
    from vllm.v1.request import Request

log = logging.getLogger("vllm.thunderserve")
NAP_S = 0.002
"""With nothing to compute, vLLM's loop asks for news without a pause; this is the pause."""
DTYPES = ("torch.float16", "torch.bfloat16", "torch.float32")
if warning := guard.check(vllm.__version__, KVConnectorBase_V1):
    log.warning(warning)


@dataclass
class Told(KVConnectorMetadata):  # type: ignore[misc]
    """What the scheduler tells the workers in one step."""

    orders: Orders


@dataclass
class Hello(KVConnectorHandshakeMetadata):  # type: ignore[misc]
    """What a worker tells the scheduler at the start."""

    kind: Kind
    rank: Rank


class ThunderServeConnector(KVConnectorBase_V1):  # type: ignore[misc]
    """See the module; vLLM makes one for its scheduler and one for each worker."""

    def __init__(self, vllm_config: VllmConfig, role: KVConnectorRole, kv_cache_config: KVCacheConfig) -> None:
        super().__init__(vllm_config=vllm_config, role=role, kv_cache_config=kv_cache_config)
        self._settings = settings_from(self._kv_transfer_config.kv_connector_extra_config)
        refuse_unsupported(vllm_config, kv_cache_config)
        self._ledger = Ledger(str(self._kv_transfer_config.engine_id))
        self._source: Source | None = None
        self._sink: Sink | None = None
        self._bad_blocks: set[int] = set()

    # in a worker

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        """Learn where keys and values lie, and begin to listen."""
        kind, shard = shape_of(self._vllm_config, kv_caches)
        layouts = layouts_of(kv_caches, kind)
        device = next(iter(kv_caches.values())).device
        self._source = Source(self._settings, kind, shard, layouts, device)
        self._sink = Sink(self._settings, kind, shard, layouts, device)
        self._hello = Hello(kind, self._source.rank)
        warm_up(sorted({"raw", "int4", self._settings.codec}), FORMATS[kind.dtype])

    def get_handshake_metadata(self) -> KVConnectorHandshakeMetadata | None:
        """Where this rank listens, and what it has."""
        return self._hello

    def start_load_kv(self, forward_context: ForwardContext, **kwargs: Any) -> None:  # noqa: ARG002
        """Begin what the scheduler has ordered; nothing of it is needed by this step."""
        orders = self._told().orders
        for hold in orders.holds:
            self._worker()[0].hold(*hold)
        for load in orders.loads:
            self._worker()[1].start(load)

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Nothing: requests are scheduled when all of their layers are here."""

    def save_kv_layer(
        self, layer_name: str, kv_layer: torch.Tensor, attn_metadata: AttentionMetadata, **kwargs: Any
    ) -> None:
        """Nothing: finished prompts are sent out of vLLM's own blocks."""

    def wait_for_save(self) -> None:
        """Nothing, as nothing is saved in a step."""

    def get_finished(self, finished_req_ids: set[str]) -> tuple[set[str] | None, set[str] | None]:  # noqa: ARG002
        """Requests that have been fetched from here, and requests whose fetching is over."""
        source, sink = self._worker()
        nap_s = NAP_S if self._told().orders.idle else 0.0
        results = sink.poll(nap_s)
        self._bad_blocks |= results.bad_blocks
        return source.poll(nap_s) or None, results.finished or None

    def get_block_ids_with_load_errors(self) -> set[int]:
        """Blocks of failed loads: vLLM computes them, or fails the request (``kv_load_failure_policy``)."""
        found, self._bad_blocks = self._bad_blocks, set()
        return found

    def shutdown(self) -> None:
        """End all threads."""
        for side in (self._source, self._sink):
            if side is not None:
                side.close()
        self._source = self._sink = None

    # in the scheduler

    def set_xfer_handshake_metadata_pp_aware(
        self, metadata: dict[tuple[int, int], KVConnectorHandshakeMetadata]
    ) -> None:
        """What all workers have said, by pipeline and tensor rank."""
        hellos = [one for _, one in sorted(metadata.items()) if isinstance(one, Hello)]
        self._ledger.kind, self._ledger.ranks = hellos[0].kind, tuple(hello.rank for hello in hellos)
        log.info("KV of this instance can be fetched from %s", ", ".join(str(rank) for rank in self._ledger.ranks))

    def get_num_new_matched_tokens(self, request: Request, num_computed_tokens: int) -> tuple[int | None, bool]:
        """Tokens that can be fetched, and that this takes a while."""
        count = self._ledger.matched(request.kv_transfer_params, request.num_tokens, num_computed_tokens)
        return count, count > 0

    def update_state_after_alloc(self, request: Request, blocks: KVCacheBlocks, num_external_tokens: int) -> None:
        """There are blocks for it."""
        ids = blocks.get_block_ids()[0]
        self._ledger.allocated(
            request.request_id, request.kv_transfer_params, ids, request.num_tokens, num_external_tokens
        )

    def build_connector_meta(self, scheduler_output: SchedulerOutput) -> KVConnectorMetadata:
        """The orders of this step."""
        return Told(self._ledger.orders(idle=scheduler_output.total_num_scheduled_tokens == 0))

    def request_finished(self, request: Request, block_ids: list[int]) -> tuple[bool, dict[str, Any] | None]:
        """Keep the blocks of a prompt that another instance will decode."""
        whole = request.status in (RequestStatus.FINISHED_LENGTH_CAPPED, RequestStatus.FINISHED_STOPPED)
        tokens = min(request.num_computed_tokens, request.num_tokens - 1)
        return self._ledger.finished(request.request_id, request.kv_transfer_params, block_ids, tokens, whole=whole)

    def _told(self) -> Told:
        told = self._get_connector_metadata()
        if not isinstance(told, Told):
            raise TypeError(f"orders of another connector: {type(told).__name__}")
        return told

    def _worker(self) -> tuple[Source, Sink]:
        if self._source is None or self._sink is None:
            raise RuntimeError("vLLM has not told this worker where its cache is")
        return self._source, self._sink


def refuse_unsupported(vllm_config: VllmConfig, kv_cache_config: KVCacheConfig) -> None:
    """Raise ValueError for a model or an option of vLLM that this connector cannot carry, naming the remedy."""
    model, parallel = vllm_config.model_config, vllm_config.parallel_config
    if len(kv_cache_config.kv_cache_groups) != 1:
        raise ValueError(
            f"{len(kv_cache_config.kv_cache_groups)} groups of KV caches: this connector takes models with one kind of "
            "attention; for sliding windows start vLLM with --disable-hybrid-kv-cache-manager"
        )
    if model.use_mla:
        raise ValueError("multi-head latent attention (MLA) is not supported by this connector")
    if parallel.data_parallel_size > 1 or getattr(parallel, "decode_context_parallel_size", 1) > 1:
        raise ValueError("data-parallel and context-parallel instances are not supported: start several instances")
    if vllm_config.speculative_config is not None:
        raise ValueError("speculative decoding is not supported by this connector")
    heads_of(0, parallel.tensor_parallel_size, model.get_total_num_kv_heads())


def shape_of(vllm_config: VllmConfig, kv_caches: dict[str, torch.Tensor]) -> tuple[Kind, Shard]:
    """What is cached, and what of it lies in this worker.

    Raises:
        ValueError: values of a type that no codec takes, or layers that are not in a row.
    """
    from vllm.distributed.parallel_state import get_tensor_model_parallel_rank
    from vllm.model_executor.models.utils import extract_layer_index

    model, parallel = vllm_config.model_config, vllm_config.parallel_config
    dtype = str(next(iter(kv_caches.values())).dtype)
    if dtype not in DTYPES:
        raise ValueError(f"a KV cache of {dtype} cannot be sent; start vLLM with --kv-cache-dtype auto")
    heads = model.get_total_num_kv_heads()
    layers = sorted(extract_layer_index(name) for name in kv_caches)
    if layers != list(range(layers[0], layers[0] + len(layers))):
        raise ValueError(f"layers {layers} are not in a row, or share a number")
    kind = Kind(model.get_total_num_hidden_layers(), heads, model.get_head_size(), dtype.removeprefix("torch."))
    mine = heads_of(get_tensor_model_parallel_rank(), parallel.tensor_parallel_size, heads)
    return kind, Shard((layers[0], layers[0] + len(layers)), mine)


def layouts_of(kv_caches: dict[str, torch.Tensor], kind: Kind) -> list[Layout]:
    """Of all layers in order, as their backend keeps them."""
    from vllm.model_executor.models.utils import extract_layer_index

    caches = [kv_caches[name] for name in sorted(kv_caches, key=extract_layer_index)]
    if caches[0].device.type != "cpu":
        return [beside(cache, kind.head_dim) for cache in caches]
    block_tokens, dtype = int(caches[0].shape[2]), caches[0].dtype
    found = measure(cpu_write(block_tokens, kind.head_dim, dtype), block_tokens, kind.head_dim, dtype)
    return [measured(cache, *found) for cache in caches]
