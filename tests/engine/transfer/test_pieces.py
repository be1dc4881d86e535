"""How layers are cut, and what codecs must be before threads use them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunderserve.engine.transfer.desk import PIECE_BYTES, PIECE_TOKENS, pieces
from thunderserve.engine.transfer.warm import warm_up
from thunderserve.kv.kernels.quantise import encode_channels
from thunderserve.kv.wire.arrays import empty
from thunderserve.kv.wire.catalogue import load
from thunderserve.kv.wire.contract import Dtype
from thunderserve.kv.wire.packet import Decoder, Encoder
from thunderserve.serving.batcher import schedule
from thunderserve.spec.kv import KvCodec


def test_a_large_layer_is_cut_where_no_code_changes(make, parts):
    pair = make()
    k, v = parts.kv(3000, heads=12, dim=64)
    pair.send(1, 1, 3000, [(k, v)], codec="int4")
    pair.until_ended(1)
    arrived = sorted(pair.worker.layers[1], key=lambda a: a.first_token)
    assert len(arrived) > 1
    assert all(a.first_token % 256 == 0 for a in arrived)
    whole = Decoder().decode(Encoder(load("int4")).encode(k, v))
    np.testing.assert_array_equal(np.concatenate([a.k for a in arrived]), whole.k)
    np.testing.assert_array_equal(np.concatenate([a.v for a in arrived]), whole.v)


@given(st.integers(1, 5000), st.integers(1, 200_000))
def test_pieces_are_the_whole_and_none_is_large(tokens, token_bytes):
    found = pieces(tokens, tokens * token_bytes)
    assert [a for a, _ in found] == [0, *(b for _, b in found[:-1])]
    assert found[-1][1] == tokens
    assert all((b - a) * token_bytes <= max(PIECE_BYTES, PIECE_TOKENS * token_bytes) for a, b in found)
    assert all(a % PIECE_TOKENS == 0 for a, _ in found)


def test_codecs_let_other_threads_run_and_simulations_do_not():
    assert encode_channels.targetoptions["nogil"]
    assert not schedule.targetoptions["nogil"]


@pytest.mark.parametrize("dtype", list(Dtype))
def test_warming_up_compiles_what_a_transfer_needs(dtype):
    warm_up(["raw", KvCodec(name="int4", bits=4, group_size=32, group_overhead_bits=32)], dtype)
    known = len(encode_channels.signatures)
    k = empty(300, 3, 64, dtype)
    k[:] = 1
    Decoder().decode(Encoder(load("int4")).encode(k.transpose(0, 1, 2)[::2], k[::2]))
    assert len(encode_channels.signatures) == known
