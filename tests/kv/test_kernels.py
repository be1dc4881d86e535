"""The compiled kernels and the Triton kernels against the plain ones, bit for bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thunderserve.kv.kernels.compiled import Compiled, hadamard_size
from thunderserve.kv.kernels.plain import Plain
from thunderserve.kv.wire.arrays import block

SHAPES = st.tuples(st.integers(0, 5), st.integers(1, 4), st.sampled_from([1, 7, 16, 33, 64, 80, 128]))
KINDS = st.tuples(
    st.sampled_from(["float16", "bfloat16", "float32"]),
    st.sampled_from(["normal", "outlier", "constant", "zeros", "tiny", "bits", "offset", "steps"]),
    st.sampled_from(["plain", "heads-first", "slice", "channels-first", "reversed"]),
    st.integers(0, 1 << 30),
)
COMPILED, PLAIN = Compiled(), Plain()


def room(size):
    return np.full(size, 0xA5, np.uint8)


def made(kinds, shape, kind):
    form, content, way, seed = kind
    return kinds.strided(kinds.fill(shape, form, content, seed), way)


def same_ways(encode, decode, x, sizes):
    """Both kernel sets write the same bytes and read back the same bits."""
    payloads = []
    for kernels in (COMPILED, PLAIN):
        parts = [room(size) for size in sizes]
        assert encode(kernels, block(x), *parts) == 0
        payloads.append(parts)
    for a, b in zip(*payloads, strict=True):
        np.testing.assert_array_equal(a, b)
    found = []
    for kernels in (COMPILED, PLAIN):
        out = np.zeros_like(x)  # keeps the order of the strides
        assert decode(kernels, *payloads[0], block(out)) == 0
        found.append(out)
    np.testing.assert_array_equal(*found)


@given(shape=SHAPES, kind=KINDS, bits=st.sampled_from([2, 4, 8]), group=st.sampled_from([8, 32, 64]))
@settings(max_examples=150, deadline=None)
def test_channel_groups(kinds, shape, kind, bits, group):
    tokens, heads, dim = shape[0] * group, shape[1], shape[2]
    x = made(kinds, (tokens, heads, dim), kind)
    same_ways(
        lambda kernels, b, codes, ends: kernels.encode_channels(b, bits, group, codes, ends),
        lambda kernels, codes, ends, b: kernels.decode_channels(codes, ends, bits, group, b),
        x,
        (tokens * heads * dim * bits // 8, tokens // group * heads * dim * 4),
    )


@given(shape=SHAPES, kind=KINDS, bits=st.sampled_from([2, 4, 8]), group=st.sampled_from([8, 32, 64]))
@settings(max_examples=150, deadline=None)
def test_token_groups(kinds, shape, kind, bits, group):
    tokens, heads, dim = shape
    same_ways(
        lambda kernels, b, codes, ends: kernels.encode_tokens(b, bits, group, codes, ends),
        lambda kernels, codes, ends, b: kernels.decode_tokens(codes, ends, bits, group, b),
        made(kinds, shape, kind),
        (tokens * -(-heads * dim * bits // 8), tokens * heads * -(-dim // group) * 4),
    )


@given(shape=SHAPES, kind=KINDS, group=st.sampled_from([8, 32, 64]))
@settings(max_examples=150, deadline=None)
def test_floats(kinds, shape, kind, group):
    tokens, heads, dim = shape
    same_ways(
        lambda kernels, b, codes, exponents: kernels.encode_floats(b, group, codes, exponents),
        lambda kernels, codes, exponents, b: kernels.decode_floats(codes, exponents, group, b),
        made(kinds, shape, kind),
        (tokens * heads * dim, tokens * heads * -(-dim // group)),
    )


@given(shape=SHAPES, kind=KINDS)
@settings(max_examples=60, deadline=None)
def test_rotation(kinds, shape, kind):
    x = made(kinds, shape, kind)
    found = []
    for kernels in (COMPILED, PLAIN):
        y = kernels.floats(*shape)
        with np.errstate(over="ignore"):
            kernels.rotate(block(x), y)
        found.append(y.memory[: x.size].copy())
    np.testing.assert_array_equal(*found)


def test_rotation_is_the_sylvester_matrix():
    from scipy.linalg import hadamard

    x = np.random.default_rng(0).standard_normal((3, 2, 64)).astype(np.float32)
    y = COMPILED.floats(3, 2, 64)
    COMPILED.rotate(block(x), y)
    np.testing.assert_allclose(
        y.memory[: x.size].view(np.float32).reshape(x.shape), x @ hadamard(64) / 8, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(("dim", "size"), [(64, 64), (128, 128), (80, 16), (96, 32), (7, 1)])
def test_rotation_covers_what_divides(dim, size):
    assert hadamard_size(dim) == size


@given(shape=SHAPES, kind=KINDS)
@settings(max_examples=60, deadline=None)
def test_copies(kinds, shape, kind):
    x = made(kinds, shape, kind)
    data = room(x.size * x.itemsize)
    COMPILED.copy_out(block(x), data)
    np.testing.assert_array_equal(data, np.ascontiguousarray(x).reshape(-1).view(np.uint8))
    back = np.zeros_like(x)
    COMPILED.copy_in(data, block(back))
    np.testing.assert_array_equal(back, x)


@pytest.mark.parametrize("form", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("worst", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kernels", [COMPILED, PLAIN], ids=["compiled", "plain"])
def test_no_kernel_takes_what_is_not_finite(kinds, form, worst, kernels):
    for where in range(3):
        x = np.zeros((8, 3, 16))
        x[:, :, :] = np.linspace(-1, 1, 16)
        x[(0, 3, 7)[where], where, (0, 8, 15)[where]] = worst
        b, many = block(kinds.to_bits(x, form)), room(10_000)
        assert kernels.encode_channels(b, 4, 8, many[: x.size // 2], many[: 3 * 16 * 4]) == 1
        assert kernels.encode_tokens(b, 4, 8, many[: x.size // 2], many[: 8 * 3 * 2 * 4]) == 1
        assert kernels.encode_floats(b, 8, many[: x.size], many[: 8 * 3 * 2]) == 1


@pytest.mark.parametrize("kernels", [COMPILED, PLAIN], ids=["compiled", "plain"])
def test_no_kernel_takes_a_range_beyond_its_scale(kinds, kernels):
    many = room(10_000)
    for form, size in (("float32", 7e4), ("bfloat16", 2.0**126)):
        column, row = np.linspace(-size, size, 8).reshape(8, 1, 1), np.linspace(-size, size, 8).reshape(1, 1, 8)
        b = block(kinds.to_bits(np.broadcast_to(column, (8, 1, 8)), form))
        assert kernels.encode_channels(b, 4, 8, many[:32], many[:32]) == 2
        assert kernels.encode_tokens(b, 4, 8, many[:32], many[:32]) == (2 if form == "float32" else 0)
        assert kernels.encode_tokens(block(kinds.to_bits(row, form)), 4, 8, many[:4], many[:4]) == 2


@pytest.mark.parametrize("kernels", [COMPILED, PLAIN], ids=["compiled", "plain"])
def test_ends_that_no_encoder_writes_are_not_decoded(kernels):
    out = block(np.zeros((8, 1, 8), np.uint16))
    for low, high in ((0x7C00, 0x7C00), (0x3C00, 0), (0, 0x7E00), (0, 0xFE00), (0xFE00, 0), (0xFC00, 0)):
        ends = np.array([low] * 8 + [high] * 8, np.uint16).view(np.uint8)
        assert kernels.decode_channels(np.zeros(32, np.uint8), ends, 4, 8, out) == 3
        ends = np.array([low, high] * 8, np.uint16).view(np.uint8)
        assert kernels.decode_tokens(np.zeros(32, np.uint8), ends, 4, 8, out) == 3
    assert kernels.decode_floats(np.full(64, 0x7F, np.uint8), np.full(8, 127, np.uint8), 8, out) == 3
    assert kernels.decode_floats(np.zeros(64, np.uint8), np.zeros(8, np.uint8), 8, out) == 3
