from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from thunderserve.serving import lists
from thunderserve.serving.pool import NONE, QUEUE, new_requests

SIZE = 30


class LineMachine(RuleBasedStateMachine):
    """A linked list and a heap of ends against Python's list and ``sorted``."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = new_requests(SIZE)
        self.lines = np.zeros(1, QUEUE)
        self.lines["head"] = self.lines["tail"] = NONE
        self.line = self.lines[0]
        self.expected: list[int] = []
        self.heap = np.zeros(SIZE + 2, np.int64)
        self.ends: dict[int, int] = {}

    @property
    def absent(self) -> list[int]:
        return [request for request in range(SIZE) if request not in self.expected]

    @precondition(lambda self: self.absent)
    @rule(data=st.data(), step=st.integers(0, 5), where=st.sampled_from(["back", "front", "before"]))
    def add(self, data: st.DataObject, step: int, where: str) -> None:
        request = data.draw(st.sampled_from(self.absent))
        if where == "back":
            lists.push_back(self.line, self.rows, request)
            self.expected.append(request)
        elif where == "front":
            lists.push_front(self.line, self.rows, request)
            self.expected.insert(0, request)
        else:
            other = data.draw(st.sampled_from([NONE, *self.expected]))
            lists.insert_before(self.line, self.rows, request, other)
            self.expected.insert(self.expected.index(other) if other != NONE else len(self.expected), request)
        lists.push_end(self.heap, 2, len(self.ends), step, request)
        self.ends[request] = step

    @precondition(lambda self: self.expected)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.expected))
        lists.unlink(self.line, self.rows, request)
        self.expected.remove(request)
        place = lists.find_end(self.heap, 2, len(self.ends), request)
        lists.remove_end(self.heap, 2, len(self.ends), place)
        del self.ends[request]

    @invariant()
    def agrees(self) -> None:
        found, request = [], int(self.line["head"])
        while request != NONE:
            found.append(request)
            request = int(self.rows["next"][request])
        assert found == self.expected
        assert self.line["count"] == len(self.expected)
        assert self.line["tail"] == (self.expected[-1] if self.expected else NONE)
        entries = self.heap[2 : 2 + len(self.ends)]
        assert sorted(entries) == sorted((step << 32) | request for request, step in self.ends.items())
        assert not len(entries) or entries[0] == min(entries)
        assert self.heap[:2].tolist() == [0, 0]


TestLine = LineMachine.TestCase
