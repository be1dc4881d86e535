"""The same trace gives the same requests; bytes give the same events however they are cut."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.load.asks import asks_of, scaled, warm_ups
from harness.load.events import Cutter, Event, Malformed, read
from thunderserve.spec.trace import Trace

TRACE = Trace(np.array([0.0, 0.5, 2.0]), np.array([10, 400, 3]), np.array([1, 20, 300]), {"too long": 2})


def test_requests_have_the_times_and_lengths_of_the_trace_and_tokens_of_the_vocabulary() -> None:
    asks = asks_of(TRACE, 7, vocabulary=100)
    assert [ask.arrival_s for ask in asks] == [0.0, 0.5, 2.0]
    assert [len(ask.prompt) for ask in asks] == [10, 400, 3] == [ask.prompt_tokens for ask in asks]
    assert [ask.output_tokens for ask in asks] == [1, 20, 300]
    drawn = set(asks[1].prompt)
    assert drawn <= set(range(100))
    assert len(drawn) > 90  # 98 are expected of 400 draws
    assert asks == asks_of(TRACE, 7, vocabulary=100)
    assert asks[0].prompt != asks_of(TRACE, 8, vocabulary=100)[0].prompt
    key = hashlib.sha256(b"thunderserve:load/0:7").digest()[:16]
    raw = np.random.Philox(key=int.from_bytes(key, "little")).random_raw(10).tolist()
    assert asks[0].prompt == tuple((2 * (one >> 11) + 1) * 100 >> 54 for one in raw)  # integers: so on every machine


def test_a_longer_prompt_begins_with_the_shorter_one_and_no_two_are_alike() -> None:
    longer = asks_of(scaled(TRACE, 2.0), 7, vocabulary=100)
    for short, long in zip(asks_of(TRACE, 7, vocabulary=100), longer, strict=True):
        assert long.prompt[: len(short.prompt)] == short.prompt
    assert longer[0].prompt != longer[1].prompt[:20]
    assert warm_ups(1, 7, vocabulary=100)[0].prompt[:10] != longer[0].prompt[:10]


def test_texts_have_as_many_words_as_tokens_are_wanted() -> None:
    asks = asks_of(TRACE, 7, vocabulary=100, prompts="text")
    assert [len(str(ask.prompt).split()) for ask in asks] == [10, 400, 3]


def test_lengths_are_scaled_rounded_and_cut() -> None:
    found = scaled(TRACE, 0.1, max_prompt=30, max_output=15)
    assert found.prompt_tokens.tolist() == [1, 30, 1]
    assert found.output_tokens.tolist() == [1, 2, 15]
    assert found.arrival_s.tolist() == TRACE.arrival_s.tolist()
    assert found.dropped == TRACE.dropped


STREAM = (
    b': hello\r\n\r\ndata: {"choices": [{"text": "\xc3\xa9", "finish_reason": null}]}\n\n'
    b'data:{"choices": [{"text": "", "finish_reason": null}]}\n\n'
    b'event: x\ndata: {"choices": [{"text": "ab", "token_ids": [1, 2], "finish_reason": "length"}]}\n\n'
    b'data: {"choices": [{"text": "", "finish_reason": "stop"}], "usage": null}\n\n'
    b'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}\n\ndata: [DONE]\n\n'
)
EVENTS = [
    Event(False, 1), Event(False, 1), Event(False, 2, True), Event(False, 0, True), Event(False, 0, False, (3, 4)), Event(True)
]  # fmt: skip


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
@settings(max_examples=200)
def test_events_are_the_same_however_the_bytes_are_cut(cuts: list[int]) -> None:
    cutter = Cutter()
    ends = [*sorted(cuts), len(STREAM)]
    found = [event for low, high in zip([0, *ends], ends, strict=False) for event in cutter.feed(STREAM[low:high])]
    assert found == EVENTS


@pytest.mark.parametrize(
    "data",
    [b"{", b"[]", b"3", b'{"choices": [1]}', b'{"usage": {}}', b'{"usage": 3}', b'{"choices": [{"token_ids": 3}]}'],
)
def test_what_is_no_chunk_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed, match="cannot be read"):
        read(data)


def test_errors_in_a_stream_are_read_in_every_shape() -> None:
    for error in ({"message": "gone"}, "gone"):
        assert read(json.dumps({"error": error}).encode()).error == "gone"
