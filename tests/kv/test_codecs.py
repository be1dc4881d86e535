"""What every codec promises: its bound, its size on the wire, what a second trip does, what it refuses."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thunderserve.kv.wire.catalogue import load, names
from thunderserve.kv.wire.contract import CodecError
from thunderserve.kv.wire.header import HEADER_BYTES
from thunderserve.kv.wire.packet import Decoder, Encoder
from thunderserve.spec.kv import CODECS

KINDS = st.tuples(
    st.sampled_from(["float16", "bfloat16", "float32"]),
    st.sampled_from(["normal", "outlier", "constant", "zeros", "tiny", "bits", "offset", "steps"]),
    st.integers(0, 1 << 30),
)
SHAPES = st.tuples(st.sampled_from([0, 1, 2, 63, 64, 65, 150]), st.integers(1, 3), st.sampled_from([1, 7, 32, 64, 80]))
ULP = {"float16": (2.0**-11, 2.0**-25), "bfloat16": (2.0**-8, 2.0**-134), "float32": (2.0**-24, 2.0**-150)}
"""Half a unit in the last place: relative, and absolute for subnormals."""
LOSSY = ("int8", "int4", "int2", "int4-rotated", "fp8")
EXACT = ("raw", "lossless")


def codec(name):
    if name == "lossless":
        pytest.importorskip("zstandard", reason="the lossless codec needs zstandard")
    return load(name)


def trip(kinds, name, k, v, **kwargs):
    packet = bytes(Encoder(codec(name)).encode(k, v, **kwargs))
    found = Decoder().decode(packet)
    return packet, found.k.view(k.dtype), found.v.view(v.dtype)


def half_scale(x, axis, group, levels):
    """Half the scale of each value's own group, by its definition, in float64."""
    found = np.zeros_like(x)
    for start in range(0, x.shape[axis], group):
        part = np.take(x, range(start, min(start + group, x.shape[axis])), axis)
        width = np.max(part, axis, keepdims=True) - np.min(part, axis, keepdims=True)
        where = [slice(None)] * 3
        where[axis] = slice(start, start + group)
        found[tuple(where)] = width / levels / 2
    return found


def slack(x, form, largest):
    """What rounding adds: once to the dtype, and float32's on the way; for float32 also the float16 ends, rounded outwards."""
    relative, absolute = ULP[form]
    ends = largest * 2.0**-10 + 2.0**-24 if form == "float32" else 0.0
    return largest * (relative + 2.0**-21) + absolute + ends + 2.0**-100


@given(shape=SHAPES, kind=KINDS, name=st.sampled_from(["int8", "int4", "int2"]))
@settings(max_examples=200, deadline=None)
def test_integer_codecs_stay_within_half_a_scale(kinds, shape, kind, name):
    form, content, seed = kind
    k, v = kinds.fill(shape, form, content, seed), kinds.fill(shape, form, content, seed + 1)
    _, k2, v2 = trip(kinds, name, k, v)
    group, levels = CODECS[name].group_size, 2 ** CODECS[name].bits - 1
    whole = shape[0] // group * group
    np.testing.assert_array_equal(k2[whole:], k[whole:])  # the tail is exact
    for x, y, axis in ((k[:whole], k2[:whole], 0), (v, v2, 2)):
        if x.size:
            a, b = kinds.to_float(x), kinds.to_float(y)
            bound = half_scale(a, axis, group, levels) + slack(a, form, np.abs(a).max())
            assert (np.abs(a - b) <= bound).all()


@pytest.mark.parametrize("name", ["int8", "int4", "int2"])
def test_the_bound_is_tight(kinds, name):
    x = kinds.to_bits(np.random.default_rng(0).uniform(-1, 1, (256, 2, 64)), "float16")
    _, k2, v2 = trip(kinds, name, x, x)
    a, group, levels = kinds.to_float(x), CODECS[name].group_size, 2 ** CODECS[name].bits - 1
    for y, axis in ((k2, 0), (v2, 2)):
        share = np.abs(a - kinds.to_float(y)) / half_scale(a, axis, group, levels)
        assert 0.95 < share.max() < 1.1
        assert 0.45 < share.mean() < 0.52  # rounding to the nearest of evenly spread values


@given(shape=SHAPES, kind=KINDS)
@settings(max_examples=100, deadline=None)
def test_fp8_keeps_four_bits_of_each_value(kinds, shape, kind):
    form, content, seed = kind
    x = kinds.fill(shape, form, content, seed)
    _, k2, v2 = trip(kinds, "fp8", x, x)
    a = kinds.to_float(x)
    if not a.size:
        return
    largest = np.maximum(np.abs(a).max(2, keepdims=True), 2.0**-126)  # at least that of its group
    finest = np.maximum(2.0 ** (np.ceil(np.log2(largest / 448)) - 10), 2.0**-136)
    bound = np.maximum(np.abs(a) / 16, finest) * (1 + 2.0**-9) + ULP[form][1]
    for y in (k2, v2):
        assert (np.abs(a - kinds.to_float(y)) <= bound).all()


def test_fp8_agrees_with_torch():
    torch = pytest.importorskip("torch", reason="torch's own float8 is the oracle")
    x = torch.cat([torch.linspace(-448, 448, 4001), torch.linspace(-0.02, 0.02, 4001)])[: 64 * 125].view(125, 1, 64)
    x[:, :, 0] = 448.0  # so that the exponent is 0
    found = Decoder().decode(bytes(Encoder(load("fp8")).encode(x, x)), tensors=True)
    assert torch.equal(found.k, x.to(torch.float8_e4m3fn).to(torch.float32))


@given(shape=SHAPES, kind=KINDS)
@settings(max_examples=100, deadline=None)
def test_the_rotated_codec_stays_within_its_bound(kinds, shape, kind):
    """Root-mean-square error of a head at most half the widest scale it can have: 2 * norm * / 15 / 2."""
    form, content, seed = kind
    x = kinds.fill(shape, form, content, seed)
    if x.size and np.abs(kinds.to_float(x)).max() * np.sqrt(shape[2]) > 65504:
        return  # some rotation of it has no float16 ends; see the test of what is refused
    _, k2, v2 = trip(kinds, "int4-rotated", x, x)
    a = kinds.to_float(x)
    if not a.size:
        return
    norm = np.sqrt((a**2).sum(2))
    for y in (k2, v2):
        error = np.sqrt(((a - kinds.to_float(y)) ** 2).mean(2))
        ends = norm * 2.0**-9 + 2.0**-23
        assert (error <= norm / 15 * (1 + 2.0**-8) + ends + slack(a, form, np.abs(a).max())).all()


def test_rotation_helps_where_a_channel_sticks_out(kinds):
    """Against the same token groups without rotation: the values of int4, which share its grouping."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((128, 2, 64))
    x[:, :, 5] = 30 + 3 * x[:, :, 5]
    bits = kinds.to_bits(x, "float16")
    _, _, plain = trip(kinds, "int4", bits, bits)
    _, _, rotated = trip(kinds, "int4-rotated", bits, bits)
    errors = [np.square(kinds.to_float(y) - x).mean() for y in (plain, rotated)]
    assert errors[1] < 0.5 * errors[0]


@given(shape=SHAPES, kind=KINDS, name=st.sampled_from(EXACT))
@settings(max_examples=60, deadline=None)
def test_exact_codecs_are_exact(kinds, shape, kind, name):
    form, content, seed = kind
    k, v = kinds.fill(shape, form, content, seed), kinds.fill(shape, form, content, seed + 1)
    _, k2, v2 = trip(kinds, name, k, v)
    np.testing.assert_array_equal(k2.view(k.dtype), k)
    np.testing.assert_array_equal(v2.view(v.dtype), v)


@pytest.mark.parametrize("name", EXACT)
def test_exact_codecs_carry_every_bit_pattern(name):
    every = np.arange(65536, dtype=np.uint16).reshape(64, 8, 128)
    found = Decoder().decode(bytes(Encoder(codec(name)).encode(every, every[::-1])))
    np.testing.assert_array_equal(found.k.view(np.uint16), every)
    np.testing.assert_array_equal(found.v.view(np.uint16), every[::-1])


@given(shape=SHAPES, kind=KINDS, name=st.sampled_from(["int8", "int4", "int2", "fp8", "raw"]))
@settings(max_examples=200, deadline=None)
def test_a_second_trip_changes_nothing(kinds, shape, kind, name):
    form, content, seed = kind
    form = "float16" if form == "float32" and name != "fp8" else form
    k, v = kinds.fill(shape, form, content, seed), kinds.fill(shape, form, content, seed + 1)
    _, k2, v2 = trip(kinds, name, k, v)
    _, k3, v3 = trip(kinds, name, k2, v2)
    np.testing.assert_array_equal(kinds.to_float(k2), kinds.to_float(k3))
    np.testing.assert_array_equal(kinds.to_float(v2), kinds.to_float(v3))


@given(content=st.sampled_from(["normal", "outlier", "offset", "steps"]), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_a_second_trip_of_float32_stays_within_the_bound_of_one(kinds, content, seed):
    x = kinds.fill((64, 2, 64), "float32", content, seed)
    _, k2, _ = trip(kinds, "int4", x, x)
    _, k3, _ = trip(kinds, "int4", k2, k2)
    a = kinds.to_float(k2)
    assert (np.abs(a - kinds.to_float(k3)) <= half_scale(a, 0, 64, 15) + slack(a, "float32", np.abs(a).max())).all()


@pytest.mark.parametrize("name", LOSSY)
@pytest.mark.parametrize("form", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("worst", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("which", ["keys", "values"])
def test_lossy_codecs_refuse_what_is_not_finite(kinds, name, form, worst, which):
    x = np.zeros((128, 2, 64))
    x[77, 1, 13] = worst
    pair = {"keys": np.zeros_like(x), "values": np.zeros_like(x)} | {which: x}
    with pytest.raises(CodecError, match=f"NaN or infinity among the {which}"):
        Encoder(load(name)).encode(*(kinds.to_bits(y, form) for y in pair.values()))


@pytest.mark.parametrize("name", ["int8", "int4", "int2", "int4-rotated"])
def test_what_float16_ends_cannot_hold_is_refused_in_words(kinds, name):
    x = kinds.to_bits(np.linspace(-1e6, 1e6, 64 * 64).reshape(64, 1, 64), "float32")
    with pytest.raises(CodecError, match="too large for a 16-bit scale; send them with 'raw'"):
        Encoder(load(name)).encode(x, x)


@pytest.mark.parametrize("name", LOSSY)
@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -3.5, 65504.0, 2.0**-24, -(2.0**-14)])
def test_a_constant_group_comes_back_as_it_was(kinds, name, value):
    """Where the float16 scale of other codecs underflows to zero and divides by it."""
    if name == "int4-rotated" and abs(value) > 5000:
        pytest.skip("the rotation adds up a head, which float16 ends cannot hold")
    x = kinds.to_bits(np.full((64, 2, 64), value), "float16")
    _, k2, v2 = trip(kinds, name, x, x)
    bound = 0 if name in ("int8", "int4", "int2") else max(abs(value) / 16, 2.0**-24)
    assert np.abs(kinds.to_float(k2) - value).max() <= bound
    assert np.abs(kinds.to_float(v2) - value).max() <= bound


@pytest.mark.parametrize("name", sorted(set(CODECS) - {"lossless"}))
@pytest.mark.parametrize("form", ["float16", "bfloat16"])
def test_the_wire_carries_the_bits_that_plans_count_on(kinds, name, form):
    """bits_per_value of the noun is the slope of bytes over tokens; what is left over is one header and the gaps."""
    few, many, heads, dim = 256, 2048, 2, 128
    sizes = []
    for tokens in (few, many):
        x = kinds.fill((tokens, heads, dim), form, "normal", 0)
        sizes.append(len(Encoder(load(name)).encode(x, x)))
    values = 2 * heads * dim
    assert 8 * (sizes[1] - sizes[0]) / (values * (many - few)) == pytest.approx(CODECS[name].bits_per_value, abs=1e-9)
    assert sizes[0] - values * few * CODECS[name].bits_per_value / 8 <= HEADER_BYTES + 40


def test_lossless_is_smaller_and_never_much_larger(kinds):
    smooth, noise = kinds.fill((512, 2, 64), "bfloat16", "normal", 0), kinds.fill((512, 2, 64), "float16", "bits", 0)
    assert len(Encoder(codec("lossless")).encode(smooth, smooth)) * 8 < 0.75 * 16 * 2 * smooth.size
    assert len(Encoder(codec("lossless")).encode(noise, noise)) * 8 < 1.01 * 16 * 2 * noise.size


def test_every_codec_is_a_noun_and_every_noun_a_codec():
    assert set(names()) == set(CODECS)


@pytest.mark.parametrize("name", ["raw", "int8", "int4", "int2", "int4-rotated", "fp8"])
@pytest.mark.parametrize("heads", [1, 3, 8])  # MQA, GQA, MHA: only the KV heads travel
def test_keys_and_values_may_differ_in_width(kinds, name, heads):
    k, v = (
        kinds.fill((130, heads, 192), "bfloat16", "normal", 1),
        kinds.fill((130, heads, 128), "bfloat16", "normal", 2),
    )
    _, k2, v2 = trip(kinds, name, k, v)
    assert (k2.shape, v2.shape) == (k.shape, v.shape)
    assert np.abs(kinds.to_float(v) - kinds.to_float(v2)).mean() < 0.5


@pytest.mark.parametrize("name", ["int8", "int4", "int2", "int4-rotated", "fp8", "raw"])
@pytest.mark.parametrize("way", ["heads-first", "slice", "channels-first", "reversed"])
def test_strides_change_no_byte_and_are_not_copied(kinds, name, way):
    k, v = kinds.fill((200, 3, 64), "float16", "normal", 1), kinds.fill((200, 3, 64), "float16", "normal", 2)
    straight, k2, v2 = trip(kinds, name, k, v)
    k, v = kinds.strided(k, way), kinds.strided(v, way)
    encoder = Encoder(load(name))
    encoder.encode(k, v)
    tracemalloc.start()
    assert bytes(encoder.encode(k, v)) == straight
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < len(straight) + k.nbytes // 2
    into = kinds.strided(np.zeros((200, 3, 64), np.uint16), way), kinds.strided(np.zeros((200, 3, 64), np.uint16), way)
    Decoder().decode(straight, into)
    np.testing.assert_array_equal(into[0], k2)
    np.testing.assert_array_equal(into[1], v2)


@pytest.mark.parametrize("name", ["int8", "int4", "int2", "fp8", "raw"])
def test_nothing_is_allocated_after_the_first_call(kinds, name):
    """Of Python's memory; the compiled loops have none to ask for, being compiled without numba's runtime."""
    k, v = kinds.fill((512, 8, 128), "float16", "normal", 1), kinds.fill((512, 8, 128), "float16", "normal", 2)
    encoder, decoder = Encoder(load(name)), Decoder()
    into = np.zeros_like(k), np.zeros_like(v)
    address = np.frombuffer(encoder.encode(k, v), np.uint8).__array_interface__["data"][0]
    decoder.decode(encoder.encode(k, v), into)
    tracemalloc.start()
    for _ in range(20):
        packet = encoder.encode(k, v)
        decoder.decode(packet, into)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.frombuffer(packet, np.uint8).__array_interface__["data"][0] == address
    assert peak < 40_000  # views and headers, not values: the block has 2 MB


def test_the_group_size_of_a_plan_is_followed(kinds):
    x = kinds.fill((256, 2, 128), "float16", "normal", 0)
    sizes = {}
    for group in (32, 64, 128):
        noun = CODECS["int4"].model_copy(update={"group_size": group})
        packet = bytes(Encoder(load(noun)).encode(x, x))
        sizes[group] = (len(packet) - HEADER_BYTES) * 8 / (2 * x.size)
        assert sizes[group] == noun.bits_per_value
        assert Decoder().decode(packet).header.group == group
    assert list(sizes.values()) == [5.0, 4.5, 4.25]


def test_a_group_size_that_no_kernel_knows_is_refused():
    with pytest.raises(CodecError, match="groups of 8, 16, 32"):
        load(CODECS["int4"].model_copy(update={"group_size": 48}))


def test_a_codec_that_is_not_there_is_named():
    with pytest.raises(CodecError, match="did you mean 'int4-rotated'"):
        load("int4-rotate")


@pytest.mark.parametrize("form", ["float16", "bfloat16", "float32"])
def test_tensors_travel_as_arrays_do(kinds, form):
    torch = pytest.importorskip("torch", reason="tensors need torch")
    x = kinds.fill((70, 3, 64), form, "normal", 3)
    kind = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}[form]
    y = torch.from_numpy(x.view(np.int32 if form == "float32" else np.int16)).view(kind)
    cache = (
        torch.stack([y, y]).permute(2, 0, 1, 3)[:, 1].permute(1, 0, 2)
    )  # as transformers keeps it: heads before tokens
    assert bytes(Encoder(load("int4")).encode(cache, cache)) == bytes(Encoder(load("int4")).encode(x, x))
    found = Decoder().decode(bytes(Encoder(load("raw")).encode(cache, cache)), tensors=True)
    assert found.k.dtype == kind
    assert torch.equal(found.k, y)
    room = torch.zeros_like(cache)
    Decoder().decode(bytes(Encoder(load("raw")).encode(cache, cache)), (room, torch.zeros_like(cache)))
    assert torch.equal(room, y)


@pytest.mark.parametrize(
    ("k", "v", "match"),
    [
        (np.zeros((2, 2), np.float16), np.zeros((2, 2, 2), np.float16), "shape"),
        (np.zeros((2, 2, 2), np.float64), np.zeros((2, 2, 2), np.float64), "float64"),
        (np.zeros((2, 2, 2), np.float16), np.zeros((3, 2, 2), np.float16), "keys have 2 tokens"),
        (np.zeros((2, 2, 2), np.float16), np.zeros((2, 2, 2), np.float32), "FLOAT16"),
        (np.zeros((2, 2, 2), ">f2"), np.zeros((2, 2, 2), ">f2"), "not >f2"),
    ],
)
def test_what_is_no_layer_is_refused(k, v, match):
    with pytest.raises(CodecError, match=match):
        Encoder(load("int4")).encode(k, v)


def test_room_of_another_shape_is_refused(kinds):
    x = kinds.fill((64, 2, 64), "float16", "normal", 0)
    packet = bytes(Encoder(load("int4")).encode(x, x))
    with pytest.raises(CodecError, match="the room is for"):
        Decoder().decode(packet, (np.zeros((63, 2, 64), np.float16), np.zeros((63, 2, 64), np.float16)))


def test_a_layer_that_is_none_is_refused(kinds):
    x = kinds.fill((1, 1, 8), "float16", "normal", 0)
    with pytest.raises(CodecError, match="no layer 3 of 3"):
        Encoder(load("int4")).encode(x, x, layer=3, layers=3)
