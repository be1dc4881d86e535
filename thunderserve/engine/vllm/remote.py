"""``kv_transfer_params``: what a prefill instance answers, and what the decode instance is given. The keys of vLLM's own proxies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from thunderserve.engine.vllm.shard import Kind, Rank, shard_from

PREFILL = {
    "do_remote_decode": True, "do_remote_prefill": False, "remote_engine_id": None, "remote_block_ids": None,
    "remote_host": None, "remote_port": None,
}  # fmt: skip
"""What a router sends with the prompt to a prefill instance; ``codec`` may be added."""


class Remote(NamedTuple):
    """Keys and values that wait at a prefill instance."""

    request: str
    """As that instance calls it."""
    tokens: int
    """From the first one on."""
    codec: str
    """Empty: the instance's own."""
    kind: Kind
    ranks: tuple[Rank, ...]

    def written(self, engine_id: str) -> dict[str, Any]:
        """As the parameters that the decode instance is to be given."""
        return {
            "do_remote_prefill": True, "do_remote_decode": False, "remote_engine_id": engine_id,
            "remote_request_id": self.request, "remote_block_ids": [], "remote_host": self.ranks[0].host,
            "remote_port": self.ranks[0].port, "remote_tokens": self.tokens, "codec": self.codec,
            "remote_kind": list(self.kind), "remote_ranks": [list(rank) for rank in self.ranks],
        }  # fmt: skip


def remote_from(given: Mapping[str, Any]) -> Remote:
    """What ``Remote.written`` wrote, after a trip through JSON.

    Raises:
        ValueError: it is not what this connector writes.
    """
    try:
        layers, heads, head_dim, dtype = given["remote_kind"]
        ranks = tuple(Rank(str(host), int(port), shard_from(shard)) for host, port, shard in given["remote_ranks"])
        kind = Kind(int(layers), int(heads), int(head_dim), str(dtype))
        found = Remote(
            str(given["remote_request_id"]), int(given["remote_tokens"]), str(given.get("codec") or ""), kind, ranks
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"kv_transfer_params are not those of a ThunderServe prefill instance: {error!r}") from error
    if not ranks or found.tokens < 1:
        raise ValueError("kv_transfer_params name no rank, or no token")
    return found
