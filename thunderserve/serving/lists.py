"""Linked lists through the request rows, and the heap of a lane's ends. A *line* is a row with ``head, tail, count``."""

from __future__ import annotations

from thunderserve.serving.compile import inlined, kernel
from thunderserve.serving.pool import NONE, Ints, Row, Rows

REQUEST_BITS = 32
REQUEST_MASK = (1 << REQUEST_BITS) - 1


@inlined
def push_back(line: Row, requests: Rows, request: int) -> None:
    """Append ``request``."""
    row = requests[request]
    row.next = NONE
    row.previous = line.tail
    if line.tail == NONE:
        line.head = request
    else:
        requests[line.tail].next = request
    line.tail = request
    line.count += 1


@inlined
def push_front(line: Row, requests: Rows, request: int) -> None:
    """Put ``request`` before all others."""
    row = requests[request]
    row.previous = NONE
    row.next = line.head
    if line.head == NONE:
        line.tail = request
    else:
        requests[line.head].previous = request
    line.head = request
    line.count += 1


@kernel
def insert_before(line: Row, requests: Rows, request: int, other: int) -> None:
    """Put ``request`` before ``other``, or last if ``other`` is NONE."""
    if other == NONE:
        push_back(line, requests, request)
    elif line.head == other:
        push_front(line, requests, request)
    else:
        before = requests[other].previous
        requests[request].previous = before
        requests[request].next = other
        requests[before].next = request
        requests[other].previous = request
        line.count += 1


@inlined
def unlink(line: Row, requests: Rows, request: int) -> None:
    """Take ``request`` out, wherever it stands."""
    row = requests[request]
    before, after = row.previous, row.next
    if before == NONE:
        line.head = after
    else:
        requests[before].next = after
    if after == NONE:
        line.tail = before
    else:
        requests[after].previous = before
    line.count -= 1


@kernel
def push_end(ends: Ints, start: int, size: int, step: int, request: int) -> None:
    """Note in the heap ``ends[start : start + size]`` that ``request`` ends at ``step``; the caller counts ``size`` up."""
    entry = (step << REQUEST_BITS) | request
    _rise(ends, start, size, entry)


@kernel
def remove_end(ends: Ints, start: int, size: int, place: int) -> None:
    """Remove the entry at ``ends[place]`` from the heap; the caller counts ``size`` down."""
    place -= start
    entry = ends[start + size - 1]
    last = size - 1
    while True:
        child = 2 * place + 1
        if child >= last:
            break
        if child + 1 < last and ends[start + child + 1] < ends[start + child]:
            child += 1
        if ends[start + child] >= entry:
            break
        ends[start + place] = ends[start + child]
        place = child
    if place < last:
        _rise(ends, start, place, entry)


@inlined
def find_end(ends: Ints, start: int, size: int, request: int) -> int:
    """Where in ``ends`` the heap has ``request``. Linear: only preemption asks."""
    for place in range(start, start + size):
        if ends[place] & REQUEST_MASK == request:
            return place
    return NONE


@kernel
def _rise(ends: Ints, start: int, place: int, entry: int) -> None:
    while place > 0:
        parent = (place - 1) >> 1
        if ends[start + parent] <= entry:
            break
        ends[start + place] = ends[start + parent]
        place = parent
    ends[start + place] = entry
