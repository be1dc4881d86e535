"""The Triton kernels in Triton's interpreter against the plain ones, bit for bit. Not yet run on a GPU."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the kernels of the GPU need torch")
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported
pytest.importorskip("triton", reason="the kernels of the GPU need triton")

from thunderserve.kv.kernels.gpu import Gpu  # noqa: E402
from thunderserve.kv.kernels.plain import Plain  # noqa: E402
from thunderserve.kv.wire.arrays import block, tensor_block  # noqa: E402

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
GPU, PLAIN = Gpu(DEVICE), Plain()
KINDS = st.tuples(
    st.sampled_from(["float16", "bfloat16", "float32"]),
    st.sampled_from(["normal", "outlier", "constant", "zeros", "tiny", "bits", "offset", "steps"]),
    st.sampled_from(["plain", "heads-first", "slice", "channels-first"]),
    st.integers(0, 1 << 30),
)
SHAPES = st.tuples(st.integers(0, 3), st.integers(1, 3), st.sampled_from([1, 7, 16, 33, 64]))
TORCH = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


def on_device(bits, form):
    """The same values and strides as a tensor."""
    signed = bits.view(np.int32 if form == "float32" else np.int16)
    return torch.from_numpy(signed).to(DEVICE).view(TORCH[form])


def same(kinds, shape, kind, encode, decode, sizes):
    form, content, way, seed = kind
    x = kinds.strided(kinds.fill(shape, form, content, seed), way)
    if way == "channels-first" and form != "float16":
        x = np.ascontiguousarray(x)
    plain = [np.zeros(size, np.uint8) for size in sizes]
    fast = [torch.zeros(size, dtype=torch.uint8, device=DEVICE) for size in sizes]
    assert encode(PLAIN, block(x), *plain) == encode(GPU, tensor_block(on_device(x, form)), *fast) == 0
    for a, b in zip(plain, fast, strict=True):
        np.testing.assert_array_equal(a, b.cpu().numpy())
    y, z = np.zeros_like(x), on_device(np.zeros_like(x), form)
    assert decode(PLAIN, *plain, block(y)) == decode(GPU, *fast, tensor_block(z)) == 0
    np.testing.assert_array_equal(
        y, z.view(torch.int32 if form == "float32" else torch.int16).cpu().numpy().view(y.dtype)
    )


@given(shape=SHAPES, kind=KINDS, bits=st.sampled_from([2, 4, 8]), group=st.sampled_from([8, 32]))
@settings(max_examples=25, deadline=None)
def test_channel_groups(kinds, shape, kind, bits, group):
    tokens, heads, dim = shape[0] * group, shape[1], shape[2]
    same(
        kinds, (tokens, heads, dim), kind,
        lambda kernels, b, codes, ends: kernels.encode_channels(b, bits, group, codes, ends),
        lambda kernels, codes, ends, b: kernels.decode_channels(codes, ends, bits, group, b),
        (tokens * heads * dim * bits // 8, tokens // group * heads * dim * 4),
    )  # fmt: skip


@given(shape=SHAPES, kind=KINDS, bits=st.sampled_from([2, 4, 8]), group=st.sampled_from([8, 32]))
@settings(max_examples=25, deadline=None)
def test_token_groups(kinds, shape, kind, bits, group):
    tokens, heads, dim = shape
    same(
        kinds, shape, kind,
        lambda kernels, b, codes, ends: kernels.encode_tokens(b, bits, group, codes, ends),
        lambda kernels, codes, ends, b: kernels.decode_tokens(codes, ends, bits, group, b),
        (tokens * -(-heads * dim * bits // 8), tokens * heads * -(-dim // group) * 4),
    )  # fmt: skip


@given(shape=SHAPES, kind=KINDS, group=st.sampled_from([8, 32]))
@settings(max_examples=25, deadline=None)
def test_floats(kinds, shape, kind, group):
    tokens, heads, dim = shape
    same(
        kinds, shape, kind,
        lambda kernels, b, codes, exponents: kernels.encode_floats(b, group, codes, exponents),
        lambda kernels, codes, exponents, b: kernels.decode_floats(codes, exponents, group, b),
        (tokens * heads * dim, tokens * heads * -(-dim // group)),
    )  # fmt: skip


@given(shape=SHAPES, kind=KINDS)
@settings(max_examples=20, deadline=None)
def test_rotation(kinds, shape, kind):
    form, content, _, seed = kind
    x = kinds.fill(shape, form, content, seed)
    plain, fast = PLAIN.floats(*shape), GPU.floats(*shape)
    PLAIN.rotate(block(x), plain)
    GPU.rotate(tensor_block(on_device(x, form)), fast)
    np.testing.assert_array_equal(plain.memory, fast.memory[: x.size].cpu().numpy().view(np.uint32))


@pytest.mark.parametrize("form", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("worst", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(kinds, form, worst):
    x = np.zeros((8, 1, 16))
    x[3, 0, 5] = worst
    b, many = tensor_block(on_device(kinds.to_bits(x, form), form)), torch.zeros(1024, dtype=torch.uint8, device=DEVICE)
    assert GPU.encode_channels(b, 4, 8, many[:64], many[:64]) == 1
    assert GPU.encode_tokens(b, 4, 8, many[:64], many[:64]) == 1
    assert GPU.encode_floats(b, 8, many[:128], many[:16]) == 1


@pytest.mark.parametrize("name", ["raw", "int8", "int4", "int2", "int4-rotated", "fp8"])
def test_whole_packets_are_the_same_bytes(kinds, name):
    from thunderserve.kv.wire.catalogue import load
    from thunderserve.kv.wire.packet import shape_of

    k, v = (kinds.fill((70, 2, 32), "bfloat16", "normal", seed) for seed in (1, 2))
    cpu, gpu = load(name), load(name, Gpu(DEVICE))
    blocks = [tensor_block(on_device(x, "bfloat16")) for x in (k, v)]
    size = cpu.payload_bytes(shape_of(block(k), block(v)))
    plain, fast = np.zeros(size, np.uint8), torch.zeros(size, dtype=torch.uint8, device=DEVICE)
    assert cpu.encode(block(k), block(v), plain) == gpu.encode(*blocks, fast)
    np.testing.assert_array_equal(plain, fast.cpu().numpy())
    y, z = np.zeros_like(k), on_device(np.zeros_like(k), "bfloat16")
    cpu.decode(plain, block(y), block(np.zeros_like(v)))
    gpu.decode(fast, tensor_block(z), tensor_block(torch.zeros_like(z)))
    np.testing.assert_array_equal(y, z.view(torch.int16).cpu().numpy())
