"""What happens next: a heap of replicas by (next_s, index), and a heap of transfers by (end_s, order of their start)."""

from __future__ import annotations

from thunderserve.serving.compile import inlined, kernel
from thunderserve.serving.pool import Rows
from thunderserve.simulator.world import World


@kernel
def set_next(replicas: Rows, index: int, time_s: float) -> None:
    """Note that replica ``index`` must be looked at again at ``time_s``."""
    earlier = time_s < replicas[index].next_s
    replicas[index].next_s = time_s
    place = replicas[index].place
    if earlier:
        _rise(replicas, place, index)
    else:
        _sink(replicas, place, index)


@kernel
def take_turn(world: World, index: int, now: float) -> None:
    """Note that replica ``index`` is looked at, at ``now``."""
    counters = world.counters[0]
    if counters.turn_s != now:
        counters.turn_s = now
        counters.turn = index
    elif counters.turn < index:
        counters.turn = index


@kernel
def had_its_turn(world: World, index: int, now: float) -> bool:
    """Whether what replica ``index`` does at ``now`` has been done: at one instant, replicas are looked at by index."""
    counters = world.counters[0]
    return bool(counters.turn_s == now and counters.turn > index)


@inlined
def _before(replicas: Rows, one: int, other: int) -> bool:
    first, second = replicas[one].next_s, replicas[other].next_s
    return first < second or (first == second and one < other)


@inlined
def _stand(replicas: Rows, place: int, index: int) -> None:
    replicas[place].slot = index
    replicas[index].place = place


@inlined
def _rise(replicas: Rows, place: int, index: int) -> None:
    while place > 0:
        parent = (place - 1) >> 1
        above = replicas[parent].slot
        if not _before(replicas, index, above):
            break
        _stand(replicas, place, above)
        place = parent
    _stand(replicas, place, index)


@inlined
def _sink(replicas: Rows, place: int, index: int) -> None:
    size = len(replicas)
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and _before(replicas, replicas[child + 1].slot, replicas[child].slot):
            child += 1
        below = replicas[child].slot
        if not _before(replicas, below, index):
            break
        _stand(replicas, place, below)
        place = child
    _stand(replicas, place, index)


@inlined
def push_transfer(world: World, end_s: float, request: int) -> None:
    """Note that the transfer of ``request`` ends at ``end_s``."""
    counters, heap = world.counters[0], world.transfers
    place, order = counters.transfers, counters.issued
    counters.transfers += 1
    counters.issued += 1
    while place > 0:
        parent = (place - 1) >> 1
        above = heap[parent]
        if above.end_s <= end_s:
            break
        _put_transfer(world, place, above.end_s, above.order, above.request)
        place = parent
    _put_transfer(world, place, end_s, order, request)


@inlined
def pop_transfer(world: World) -> int:
    """Remove the transfer that ends first; return its request."""
    counters, heap = world.counters[0], world.transfers
    request = heap[0].request
    counters.transfers -= 1
    size = counters.transfers
    end_s, order, moved = heap[size].end_s, heap[size].order, heap[size].request
    place = 0
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and _ends_earlier(world, child + 1, heap[child].end_s, heap[child].order):
            child += 1
        below = heap[child]
        if not _ends_earlier(world, child, end_s, order):
            break
        _put_transfer(world, place, below.end_s, below.order, below.request)
        place = child
    _put_transfer(world, place, end_s, order, moved)
    return int(request)


@inlined
def _ends_earlier(world: World, place: int, end_s: float, order: int) -> bool:
    row = world.transfers[place]
    return bool(row.end_s < end_s or (row.end_s == end_s and row.order < order))


@inlined
def _put_transfer(world: World, place: int, end_s: float, order: int, request: int) -> None:
    row = world.transfers[place]
    row.end_s = end_s
    row.order = order
    row.request = request
