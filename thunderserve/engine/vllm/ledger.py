"""The scheduler's side: which requests are to be fetched, which are to be kept, and what the ranks are told of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from thunderserve.engine.vllm.remote import Remote, remote_from, way_from
from thunderserve.engine.vllm.shard import Kind, Rank
from thunderserve.engine.vllm.sink import Load

log = logging.getLogger(__name__)
Params = dict[str, Any]


class Hold(NamedTuple):
    """A finished prompt whose blocks stay."""

    request: str
    blocks: tuple[int, ...]
    tokens: int


@dataclass(frozen=True)
class Orders:
    """What all ranks do in one step."""

    loads: tuple[Load, ...] = ()
    holds: tuple[Hold, ...] = ()
    idle: bool = False
    """The model has nothing to do in this step."""


@dataclass
class Ledger:
    """Of one instance; knows its ranks once they have said hello."""

    engine_id: str
    kind: Kind | None = None
    ranks: tuple[Rank, ...] = ()
    _loads: list[Load] = field(default_factory=list)
    _holds: list[Hold] = field(default_factory=list)

    def matched(self, params: Params | None, tokens: int, computed: int) -> int:
        """Tokens beyond ``computed`` that can be fetched for a request of ``tokens`` tokens; 0 for none, or for foreign words."""
        if not params or not params.get("do_remote_prefill"):
            return 0
        try:
            remote = remote_from(params)
        except ValueError as error:  # raised, it would end the whole engine
            log.error("%s: the prompt is computed here", error)
            params["do_remote_prefill"] = False
            return 0
        return max(0, min(remote.tokens, tokens) - computed)

    def allocated(self, request: str, params: Params | None, blocks: Sequence[int], tokens: int, fetched: int) -> None:
        """vLLM has kept ``blocks``; ``fetched`` of the ``tokens`` tokens are to come, 0 for none."""
        if not params or not params.get("do_remote_prefill"):
            return
        params["do_remote_prefill"] = False  # once: after a preemption it is recomputed here
        remote = remote_from(params)
        end = min(remote.tokens, tokens) if fetched else 0
        self._fetch(request, remote, blocks, end - fetched, end)

    def finished(
        self, request: str, params: Params | None, blocks: Sequence[int], tokens: int, *, whole: bool
    ) -> tuple[bool, Params | None]:
        """Whether its blocks are to stay, and what the client is told.

        Args:
            tokens: whose keys and values are in ``blocks``.
            whole: it ended by itself, and was not aborted.
        """
        if not params:
            return False, None
        if params.get("do_remote_prefill"):  # aborted before it was scheduled: the other side need not keep it
            params["do_remote_prefill"] = False
            self._fetch(request, remote_from(params), (), 0, 0)
            return False, None
        if not params.get("do_remote_decode") or not whole or not blocks or tokens < 1:
            return False, None
        if self.kind is None or not self.ranks:
            log.error("no rank of this instance has said where it listens: nobody can fetch %s", request)
            return False, None
        try:
            remote = Remote(request, tokens, way_from(params), self.kind, self.ranks)
        except (TypeError, ValueError) as error:
            log.error("kv_transfer_params of %s: %s: nobody can fetch it", request, error)
            return False, None
        self._holds.append(Hold(request, tuple(blocks), tokens))
        return True, remote.written(self.engine_id)

    def orders(self, *, idle: bool) -> Orders:
        """For this step; given out once."""
        found = Orders(tuple(self._loads), tuple(self._holds), idle)
        self._loads.clear()
        self._holds.clear()
        return found

    def _fetch(self, request: str, remote: Remote, blocks: Sequence[int], first: int, end: int) -> None:
        shards = tuple(rank.shard for rank in self.ranks)
        self._loads.append(Load(request, remote, tuple(blocks), first, end, shards))
