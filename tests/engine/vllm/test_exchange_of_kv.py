"""Keys and values from one instance's blocks into another's: exact, cut differently, and when things go wrong."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sides import Make, Side, content, emptied, finished, freed

from thunderserve.engine.vllm.asks import Ask, RefusedError, put
from thunderserve.engine.vllm.remote import Remote, Way
from thunderserve.engine.vllm.shard import Kind, Rank, Shard
from thunderserve.engine.vllm.sink import Load

PLAIN = Way()
KIND = Kind(4, 6, 32, "float32")
WHOLE = Shard((0, 4), (0, 6))
TP2 = (Shard((0, 4), (0, 3)), Shard((0, 4), (3, 6)))
PP2 = (Shard((0, 1), (0, 6)), Shard((1, 4), (0, 6)))
GRID = tuple(Shard(layers, heads) for layers in ((0, 2), (2, 4)) for heads in ((0, 2), (2, 4), (4, 6)))


def load_of(
    request: str, sources: tuple[Side, ...], sinks: tuple[Side, ...], blocks: tuple[int, ...], tokens: int, *,
    first: int = 0, way: Way = PLAIN,
) -> Load:  # fmt: skip
    remote = Remote(request, tokens, way, KIND, tuple(side.source.rank for side in sources))
    return Load(request + "-d", remote, blocks, first, tokens, tuple(side.shard for side in sinks))


@pytest.mark.parametrize("theirs", [(WHOLE,), TP2, PP2, GRID], ids=["whole", "tp2", "pp2", "tp3pp2"])
@pytest.mark.parametrize("ours", [(WHOLE,), TP2, PP2], ids=["whole", "tp2", "pp2"])
def test_raw_is_bit_exact_however_the_instances_are_cut(
    make: Make, theirs: tuple[Shard, ...], ours: tuple[Shard, ...]
) -> None:
    keys, values = content(KIND, 75)
    sources = tuple(make(KIND, shard, block_tokens=16) for shard in theirs)
    sinks = tuple(make(KIND, shard, block_tokens=32) for shard in ours)
    for source in sources:
        source.put((3, 9, 4, 11, 7), keys, values)
        source.source.hold("r", (3, 9, 4, 11, 7), 75)
    for sink in sinks:
        sink.sink.start(load_of("r", sources, sinks, (5, 2, 8), 75))
    for sink in sinks:
        assert finished(sink, pump=sources) == ({"r-d"}, set())
        k, v = sink.get((5, 2, 8), 75)
        assert torch.equal(k, sink.mine(keys))
        assert torch.equal(v, sink.mine(values))
    for source in sources:
        assert emptied(source)


def test_raw_is_bit_exact_over_nixl(make: Make) -> None:
    pytest.importorskip("nixl", reason="NIXL is not installed: pip install nixl")
    keys, values = content(KIND, 75)
    source, sink = (make(KIND, WHOLE, transport="nixl") for _ in range(2))
    source.put((3, 9, 4, 11, 7), keys, values)
    source.source.hold("r", (3, 9, 4, 11, 7), 75)
    sink.sink.start(load_of("r", (source,), (sink,), (3, 2, 8, 1, 0), 75))
    assert finished(sink, pump=(source,)) == ({"r-d"}, set())
    k, v = sink.get((3, 2, 8, 1, 0), 75)
    assert torch.equal(k, keys)
    assert torch.equal(v, values)


def test_four_bits_are_what_the_codec_gives_and_the_way_may_say_so(make: Make) -> None:
    from thunderserve.kv.wire.catalogue import load as codec
    from thunderserve.kv.wire.packet import Decoder, Encoder

    keys, values = content(KIND, 100)
    source, sink = make(KIND, WHOLE), make(KIND, WHOLE)
    blocks = tuple(range(7))
    source.put(blocks, keys, values)
    source.source.hold("r", blocks, 100)
    sink.sink.start(load_of("r", (source,), (sink,), blocks, 100, way=Way("int4")))
    assert finished(sink, pump=(source,)).bad_blocks == set()
    k, v = sink.get(blocks, 100)
    for layer in range(KIND.layers):
        alone = Decoder().decode(bytes(Encoder(codec("int4")).encode(keys[layer], values[layer])))
        assert torch.equal(k[layer], torch.from_numpy(alone.k))
        assert torch.equal(v[layer], torch.from_numpy(alone.v))
    assert freed(source) == {"r"}
    assert sink.sink.received_bytes == source.source.sent_bytes < 2 * keys.nbytes // 3


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tokens=st.integers(1, 90), first=st.integers(0, 5), seed=st.integers(0, 99))
def test_only_what_is_missing_is_fetched(make: Make, tokens: int, first: int, seed: int) -> None:
    """A decode instance that has the beginning in its prefix cache asks for the rest, from a block's first token on."""
    first = min(first * 16, tokens - 1)
    keys, values = content(KIND, tokens, seed)
    source, sink = make(KIND, WHOLE), make(KIND, WHOLE)
    blocks = tuple(range(1, 8))
    source.put(blocks, keys, values)
    source.source.hold("r", blocks, tokens)
    sink.sink.start(load_of("r", (source,), (sink,), blocks, tokens, first=first))
    assert finished(sink, pump=(source,)).bad_blocks == set()
    k, v = sink.get(blocks, tokens)
    assert torch.equal(k[:, first:], keys[:, first:])
    assert torch.equal(v[:, first:], values[:, first:])
    assert not k[:, :first].any()


def test_many_at_once(make: Make) -> None:
    source, sink = make(KIND, WHOLE, blocks=256), make(KIND, WHOLE, blocks=256)
    made = {number: content(KIND, 20 + number, number) for number in range(24)}
    for number, (keys, values) in made.items():
        blocks = tuple(range(5 * number, 5 * number + 5))
        source.put(blocks, keys, values)
        source.source.hold(str(number), blocks, 20 + number)
        sink.sink.start(load_of(str(number), (source,), (sink,), blocks[::-1], 20 + number))
    ended: set[str] = set()
    while len(ended) < len(made):
        results = finished(sink, pump=(source,))
        ended |= results.finished
        assert not results.bad_blocks
    for number, (keys, _) in made.items():
        k, _ = sink.get(tuple(range(5 * number, 5 * number + 5))[::-1], 20 + number)
        assert torch.equal(k, keys)
    assert emptied(source)
    assert sink.sink.live == 0


def test_a_prompt_that_nobody_wants_any_more_is_given_up(make: Make) -> None:
    source, sink = make(KIND, WHOLE), make(KIND, WHOLE)
    source.source.hold("r", (0,), 10)
    sink.sink.start(load_of("r", (source,), (sink,), (), 0)._replace(tokens=0))
    assert freed(source) == {"r"}
    assert sink.sink.poll(0.05) == (set(), set())


def test_a_lease_ends(make: Make) -> None:
    source, sink = make(KIND, WHOLE, lease_s=0.1), make(KIND, WHOLE)
    source.source.hold("r", (0,), 10)
    assert freed(source) == {"r"}
    assert source.source.expired == 1
    sink.sink.start(load_of("r", (source,), (sink,), (4,), 10))
    assert finished(sink) == ({"r-d"}, {4})


def test_an_instance_that_is_gone_fails_the_load_and_names_its_blocks(make: Make) -> None:
    sink = make(KIND, WHOLE, retries=1)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    remote = Remote("r", 40, Way(), KIND, (Rank("127.0.0.1", port, WHOLE),))
    sink.sink.start(Load("r", remote, (6, 7, 8, 9), 16, 40, (WHOLE,)))
    assert finished(sink) == ({"r"}, {7, 8})


def test_a_sender_that_dies_in_the_middle_fails_the_load_and_nothing_is_written_afterwards(make: Make) -> None:
    source = make(KIND, WHOLE, link_gbit=0.0005, blocks=128)
    sink = make(KIND, WHOLE, blocks=128, timeout_s=1.0)
    blocks = tuple(range(100))
    keys, values = content(KIND, 1500)
    source.put(blocks, keys, values)
    source.source.hold("r", blocks, 1500)
    sink.sink.start(load_of("r", (source,), (sink,), blocks, 1500))
    until_s = time.monotonic() + 10
    while not sink.sink.received_tokens and time.monotonic() < until_s:
        time.sleep(0.01)
    source.source.close()
    results = finished(sink)
    assert results.finished == {"r-d"}
    assert results.bad_blocks == set(range(94))
    before = [cache.clone() for cache in sink.caches]
    time.sleep(0.3)
    assert all(torch.equal(a, b) for a, b in zip(before, sink.caches, strict=True))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"request": "another"}, "is not here"),
        ({"tokens": 11}, "of the 10 of r"),
        ({"kind": KIND._replace(dtype="bfloat16")}, "dtype bfloat16 there and float32 here"),
        ({"part": Shard((0, 5), (0, 6))}, "this rank has"),
        ({"way": Way("int3")}, ""),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused_in_words(
    make: Make, monkeypatch: pytest.MonkeyPatch, change: dict[str, object], words: str
) -> None:
    monkeypatch.setattr("thunderserve.engine.vllm.source.EARLY_S", 0.05)
    source = make(KIND, WHOLE)
    source.source.hold("r", (0,), 10)
    ask = Ask("r", 1, ("127.0.0.1", 1), 0, 10, WHOLE, Way(), 1, KIND)._replace(**change)  # type: ignore[arg-type]
    rank = source.source.rank
    if words:
        with pytest.raises(RefusedError, match=words):
            put(ask, rank.host, rank.port)
    else:  # taken on, and failed when it is encoded: its blocks come back
        put(ask, rank.host, rank.port)
        assert freed(source) == {"r"}


def test_noise_at_the_door_is_answered_and_forgotten(make: Make) -> None:
    rank = make(KIND, WHOLE).source.rank
    with socket.create_connection((rank.host, rank.port)) as noise:
        noise.sendall(b"GET / HTTP/1.1\r\n\n")
        assert b"refused" in noise.recv(1000)


def test_ends_and_leaves_no_thread(make: Make, tmp_path: Path) -> None:
    import threading

    before = threading.active_count()
    side = make(KIND, WHOLE)
    assert threading.active_count() > before
    side.source.close()
    side.sink.close()
    until_s = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < until_s:
        time.sleep(0.01)
    assert threading.active_count() == before


def test_a_question_may_come_a_whole_step_before_its_request_is_known_to_be_finished(make: Make) -> None:
    """vLLM tells a rank with its next step, and a step of many prompts takes seconds."""
    keys, values = content(KIND, 20)
    source, sink = make(KIND, WHOLE, timeout_s=10.0), make(KIND, WHOLE, timeout_s=10.0)
    source.put((0, 1), keys, values)
    sink.sink.start(load_of("r", (source,), (sink,), (0, 1), 20))
    time.sleep(3.5)
    source.source.hold("r", (0, 1), 20)
    assert finished(sink, pump=(source,)) == ({"r-d"}, set())
