"""Which workers serve the next request: the router of the simulator, over what the coordinator knows of its workers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from thunderserve.engine.messages import Beat, Hello, Role
from thunderserve.serving.blocks import blocks_for
from thunderserve.serving.compile import kernel
from thunderserve.serving.pool import Ints, Limits, Pool, Rows, empty_pool, new_requests
from thunderserve.serving.router import Router, can_serve, least_loaded, new_routes, next_by_share
from thunderserve.spec.plan import Flow
from thunderserve.spec.plan import Router as RouterName

Bools: TypeAlias = NDArray[np.bool_]

ROUTERS: dict[RouterName, Router] = {
    "flows": Router.SHARES,
    "join_shortest_queue": Router.SHORTEST_QUEUE,
    "fewest_tokens": Router.FEWEST_TOKENS,
    "least_kv": Router.LEAST_KV,
}
SHARES, SHORTEST_QUEUE, FEWEST_TOKENS = int(Router.SHARES), int(Router.SHORTEST_QUEUE), int(Router.FEWEST_TOKENS)


class Need(NamedTuple):
    """What a request wants of its workers, in tokens."""

    prompt_tokens: int
    """To be computed first: the prompt, and what was told already."""
    output_tokens: int
    """Still to come, at most."""


class Routing:
    """The flows of a plan over workers that come and go.

    The shares hold among the flows whose workers are there: when one goes, its share goes to the others in proportion, and
    counting begins anew, so that one that comes back is not flooded with what it missed.

    Args:
        roles: of each replica.
        flows: of the plan.
        router: of the plan.
    """

    def __init__(self, roles: Sequence[Role], flows: Sequence[Flow], router: RouterName = "flows") -> None:
        self.started = tuple(roles)
        """What each worker was told when it was started."""
        self.roles = list(roles)
        """What each plays now."""
        self.router = router
        limits = [Limits(True, 1, 1, 0, 0, role.max_sequences, role.max_batched_tokens) for role in roles]
        self._pool = empty_pool(limits, new_requests(0))
        self._context = np.zeros(len(roles), np.int64)
        self._live = np.zeros(len(roles), np.bool_)
        self.reroute(flows)
        self._warm_up()

    def reroute(self, flows: Sequence[Flow], router: RouterName | None = None) -> None:
        """From now on send requests so.

        Raises:
            ValueError: a flow names a replica that is not there, or one whose role it does not fit; or none has a share.
        """
        if not any(flow.share > 0 for flow in flows):
            raise ValueError("no flow has a share: nobody would be served")
        for flow in flows:
            if max(flow.prefill, flow.decode) >= len(self.roles):
                raise ValueError(f"a flow names replica {max(flow.prefill, flow.decode)} of {len(self.roles)}")
            if not self._fits(flow):
                first, second = (self.roles[end].phase for end in (flow.prefill, flow.decode))
                raise ValueError(f"replica {flow.prefill} ({first}) cannot hand over to {flow.decode} ({second})")
        self.flows = tuple(sorted(flows, key=lambda flow: (flow.prefill, flow.decode)))
        self.router = router or self.router
        self._lay_out()

    def flip(self, replica: int, role: Role) -> None:
        """A replica has another role: flows that do not fit it carry nothing until ``reroute``."""
        self.roles[replica] = role
        self._lay_out()

    def join(self, hello: Hello) -> None:
        """A worker is there, empty."""
        row = self._pool.replicas[hello.replica]
        row["blocks"] = row["free"] = hello.blocks
        row["block_tokens"] = hello.block_tokens
        row["pending_requests"] = row["pending_tokens"] = 0
        self._context[hello.replica] = hello.max_context
        self._live[hello.replica] = True
        self._lay_out()

    def leave(self, replica: int) -> None:
        """A worker has gone; what it could hold is remembered."""
        self._live[replica] = False
        self._lay_out()

    def beat(self, replica: int, beat: Beat) -> None:
        """What a worker holds, as it says."""
        self._pool.replicas[replica]["free"] = beat.blocks - beat.blocks_used

    def give(self, replica: int, need: Need) -> None:
        """Count a request as pending at a replica; its prompt holds blocks until the next beat tells."""
        row = self._pool.replicas[replica]
        row["pending_requests"] += 1
        row["pending_tokens"] += need.prompt_tokens
        row["free"] -= blocks_for(need.prompt_tokens, int(row["block_tokens"]))

    def take(self, replica: int, need: Need) -> None:
        """It is pending there no longer."""
        row = self._pool.replicas[replica]
        row["pending_requests"] -= 1
        row["pending_tokens"] -= need.prompt_tokens

    def pending(self, replica: int) -> tuple[int, int]:
        """Requests and prompt tokens that a replica was given and has not finished."""
        row = self._pool.replicas[replica]
        return int(row["pending_requests"]), int(row["pending_tokens"])

    def choose(self, need: Need, avoid: Collection[Flow] = ()) -> Flow | None:
        """The flow that serves the next request, of those whose workers are there; one of ``avoid`` only if no other can."""
        able = self._able(need) & self._here
        fresh = able & np.array([flow not in avoid for flow in self.flows])
        allowed = np.flatnonzero(fresh if fresh.any() else able)
        if not len(allowed):
            return None
        routes = self._routes[allowed]
        if not routes["share"].any():
            routes["share"] = 1.0  # only flows without a share are left
        routes["share"] /= routes["share"].sum()
        kind, routed = int(ROUTERS[self.router]), int(routes["count"].sum())
        index = int(allowed[_choose(self._pool, routes, kind, routed, *need)])
        self._routes[index]["count"] += 1
        return self.flows[index]

    def possible(self, need: Need) -> bool:
        """Whether some flow could serve this if all workers were there; one that was never there could, perhaps."""
        known = self._pool.replicas["blocks"] > 0
        unknown = ~(known[self._routes["prefill"]] & known[self._routes["decode"]])
        return bool((unknown | self._able(need)).any())

    @property
    def max_context(self) -> int:
        """Tokens of prompt and answer that some flow takes, at most; 0 before any worker was there."""
        return int(self._contexts().max())

    @property
    def open(self) -> bool:
        """Whether the workers of some flow are there."""
        return bool(self._here.any())

    def _contexts(self) -> Ints:
        """By flow: the context that both its replicas take."""
        found: Ints = np.minimum(self._context[self._routes["prefill"]], self._context[self._routes["decode"]])
        return found

    def _able(self, need: Need) -> Bools:
        """By flow: whether its replicas, when empty, can hold such a request."""
        found = np.empty(len(self._routes), np.bool_)
        _can_serve(self._pool, self._routes, *need, found)
        return found & (self._contexts() >= need.prompt_tokens + need.output_tokens)

    def _lay_out(self) -> None:
        """Begin to count anew, among the flows that are open."""
        self._routes = new_routes([(flow.prefill, flow.decode, flow.share) for flow in self.flows])
        live = self._live[self._routes["prefill"]] & self._live[self._routes["decode"]]
        self._here: Bools = live & np.array([self._fits(flow) for flow in self.flows])

    def _fits(self, flow: Flow) -> bool:
        first, second = self.roles[flow.prefill].phase, self.roles[flow.decode].phase
        if flow.prefill == flow.decode:
            return first == "both"
        return first != "decode" and second != "prefill"

    def _warm_up(self) -> None:
        """Machine code before the first request."""
        self._able(Need(1, 2))
        for router in ROUTERS.values():
            _choose(self._pool, self._routes.copy(), int(router), 0, *Need(1, 2))


@kernel
def _choose(pool: Pool, routes: Rows, router: int, routed: int, prompt_tokens: int, output_tokens: int) -> int:
    """Index of the route that the router takes; NONE if none can serve the request."""
    if router == SHARES:
        return int(next_by_share(pool, routes, routed, prompt_tokens, output_tokens))
    for index in range(len(pool.replicas)):
        row = pool.replicas[index]
        if router == SHORTEST_QUEUE:
            row.load = float(row.pending_requests)
        elif router == FEWEST_TOKENS:
            row.load = float(row.pending_tokens)
        else:
            row.load = (row.blocks - row.free) / max(row.blocks, 1)
    return int(least_loaded(pool, routes, prompt_tokens, output_tokens))


@kernel
def _can_serve(pool: Pool, routes: Rows, prompt_tokens: int, output_tokens: int, found: Bools) -> None:
    """``found``, one value a route: whether its replicas have the blocks for the request when they are empty."""
    for index in range(len(routes)):
        found[index] = can_serve(pool, routes[index], prompt_tokens, output_tokens)
