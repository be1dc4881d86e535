"""The books of a simulation: every block, token and request accounted for. For tests, between any two events."""

from __future__ import annotations

from typing import Any

import numpy as np

from thunderserve.serving.lists import REQUEST_MASK
from thunderserve.serving.pool import FINISHED, LEAVES, LEFT, NONE, REJECTED
from thunderserve.simulator.world import World


def check(world: World) -> None:
    """Raise AssertionError, naming the replica, if anything does not add up. Slow; outside a cruise only."""
    places: list[int] = []
    outgoing = np.zeros(len(world.pool.replicas), np.int64)  # blocks that wait at a prefill replica to be received
    for index, replica in enumerate(world.pool.replicas):
        for queue in ("waiting", "ready", "inbox", "outbox"):
            places += _walk(world, replica[queue], f"replica {index}: {queue}")
        for request in _walk(world, replica["inbox"], "inbox"):
            _leave_behind(world, outgoing, request)
    travelling = world.transfers["request"][: int(world.counters["transfers"][0])].tolist()
    for request in travelling:
        _leave_behind(world, outgoing, request)
    for index, replica in enumerate(world.pool.replicas):
        held = int(outgoing[index])
        arriving = [request for request in travelling if _route(world, request)["decode"] == index]
        for request in [*_walk(world, replica["ready"], "ready"), *arriving]:
            held += _blocks(replica, world.pool.requests["prompt_tokens"][request])
        for number in range(replica["lane0"], replica["lane0"] + replica["stages"]):
            members, in_lane = _check_lane(world, replica, world.pool.lanes[number], f"lane {number}")
            places += members
            held += in_lane
        _expect(f"replica {index}: blocks", int(replica["blocks"] - replica["free"]), held)
    _check_requests(world, places + travelling)


def _check_lane(world: World, replica: Any, lane: Any, where: str) -> tuple[list[int], int]:
    """The lane's sequences and the blocks they hold."""
    members = _walk(world, lane, where)
    decoding = members[: int(lane["decoding"])]
    rows = world.pool.requests
    held, context = 0, 0
    residues = np.zeros(int(replica["block_tokens"]), np.int64)
    begun = int(lane["batch_steps"]) if lane["flying"] and lane["batch_decodes"] else 0
    for request in decoding:
        row = rows[request]
        cached = int(row["prompt_tokens"] + row["output_tokens"] - 1 - (row["progress"] - lane["step"]))
        context += cached
        residues[(cached - lane["step"]) % len(residues)] += 1
        held += _blocks(replica, cached + begun)
    for request in members[len(decoding) :]:
        held += _blocks(replica, rows["prompt_tokens"][request] + rows["progress"][request])
    _expect(f"{where}: context", int(lane["context"]), context)
    first = int(lane["residue0"])
    _expect(f"{where}: residues", world.pool.ints[first : first + len(residues)].tolist(), residues.tolist())
    ends = world.pool.ints[lane["ends0"] : lane["ends0"] + lane["ends"]]
    _expect(f"{where}: ends", sorted((ends & REQUEST_MASK).tolist()), sorted(decoding))
    _expect(f"{where}: order of ends", all(ends[(i - 1) // 2] <= ends[i] for i in range(1, len(ends))), True)
    _expect(f"{where}: end steps", sorted((ends >> 32).tolist()), sorted(rows["progress"][decoding].tolist()))
    return members, held


def _check_requests(world: World, places: list[int]) -> None:
    """Every request is in exactly one place: not arrived, somewhere in a replica, travelling, finished or rejected."""
    rows = world.pool.requests
    _expect("requests in two places", len(places), len(set(places)))
    coming, request = [], int(world.counters["upcoming"][0])
    while request != NONE:
        coming.append(request)
        request = int(rows["next"][request])
    done = np.flatnonzero((rows["status"] == FINISHED) | (rows["status"] == REJECTED)).tolist()
    _expect("requests", sorted(places + coming + done), list(range(len(rows))))
    started = np.isin(np.arange(len(rows)), coming, invert=True) & (rows["status"] != REJECTED)
    pending = np.zeros(len(world.pool.replicas), np.int64)
    for request in np.flatnonzero(started & (rows["status"] != FINISHED)).tolist():
        route = _route(world, request)
        if rows["moves"][request] != LEFT:
            pending[route["prefill"]] += 1
        if rows["moves"][request] in {LEAVES, LEFT}:
            pending[route["decode"]] += 1
    _expect("pending requests", world.pool.replicas["pending_requests"].tolist(), pending.tolist())


def _walk(world: World, line: Any, where: str) -> list[int]:
    """The requests of a linked list, both ways."""
    found, request, before = [], int(line["head"]), NONE
    while request != NONE:
        _expect(f"{where}: link back from {request}", int(world.pool.requests["previous"][request]), before)
        found.append(request)
        before, request = request, int(world.pool.requests["next"][request])
    _expect(f"{where}: tail", int(line["tail"]), before)
    _expect(f"{where}: count", int(line["count"]), len(found))
    return found


def _leave_behind(world: World, outgoing: Any, request: int) -> None:
    source = int(_route(world, request)["prefill"])
    outgoing[source] += _blocks(world.pool.replicas[source], world.pool.requests["prompt_tokens"][request])


def _route(world: World, request: int) -> Any:
    return world.routes[world.pool.requests["route"][request]]


def _blocks(replica: Any, tokens: Any) -> int:
    return -(-int(tokens) // int(replica["block_tokens"]))


def _expect(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise AssertionError(f"{what}: {found}, but {expected} by the books")
