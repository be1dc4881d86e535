"""``kv_transfer_params``: what a prefill instance answers and a decode instance is given, by the keys of vLLM's own proxies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from thunderserve.engine.vllm.shard import Kind, Rank, kind_from, shard_from

PREFILL = {
    "do_remote_decode": True, "do_remote_prefill": False, "remote_engine_id": None, "remote_block_ids": None,
    "remote_host": None, "remote_port": None,
}  # fmt: skip
"""What a router sends with the prompt to a prefill instance; ``codec``, ``group_size`` and ``link`` may be added."""


class Way(NamedTuple):
    """How keys and values travel, where a request says it; otherwise as the instance that sends them was told."""

    codec: str = ""
    group_size: int = 0
    """0: the codec's own."""
    bytes_per_s: float = 0.0
    """A slower link is imitated; 0: the network as it is."""
    latency_s: float = 0.0


def way_from(given: Mapping[str, Any]) -> Way:
    """``codec``, ``group_size`` and ``link`` (bytes a second, seconds) of a request. Raises TypeError, ValueError."""
    bytes_per_s, latency_s = given.get("link") or (0.0, 0.0)
    return Way(str(given.get("codec") or ""), int(given.get("group_size") or 0), float(bytes_per_s), float(latency_s))


class Remote(NamedTuple):
    """Keys and values that wait at a prefill instance."""

    request: str
    """As that instance calls it."""
    tokens: int
    """From the first one on."""
    way: Way
    kind: Kind
    ranks: tuple[Rank, ...]

    def written(self, engine_id: str) -> dict[str, Any]:
        """As the parameters that the decode instance is to be given."""
        return {
            "do_remote_prefill": True, "do_remote_decode": False, "remote_engine_id": engine_id,
            "remote_request_id": self.request, "remote_block_ids": [], "remote_host": self.ranks[0].host,
            "remote_port": self.ranks[0].port, "remote_tokens": self.tokens, "codec": self.way.codec,
            "group_size": self.way.group_size, "link": [self.way.bytes_per_s, self.way.latency_s],
            "remote_kind": list(self.kind), "remote_ranks": [list(rank) for rank in self.ranks],
        }  # fmt: skip


def remote_from(given: Mapping[str, Any]) -> Remote:
    """What ``Remote.written`` wrote, after a trip through JSON.

    Raises:
        ValueError: it is not what this connector writes.
    """
    try:
        ranks = tuple(Rank(str(host), int(port), shard_from(shard)) for host, port, shard in given["remote_ranks"])
        kind = kind_from(given["remote_kind"])
        found = Remote(str(given["remote_request_id"]), int(given["remote_tokens"]), way_from(given), kind, ranks)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"kv_transfer_params are not those of a ThunderServe prefill instance: {error!r}") from error
    if not ranks or found.tokens < 1:
        raise ValueError("kv_transfer_params name no rank, or no token")
    return found
