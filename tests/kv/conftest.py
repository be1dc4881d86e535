"""Keys and values of every kind, for all tests of this folder; ``pytest.importorskip`` says what an absent package leaves out."""

import numpy as np
import pytest

FORMATS = {"float16": (np.uint16, 0x7C00), "bfloat16": (np.int16, 0x7F80), "float32": (np.uint32, 0x7F800000)}
CONTENTS = ("normal", "outlier", "constant", "zeros", "tiny", "bits", "offset", "steps")


def to_float(bits):
    """Bits (uint16 float16, int16 bfloat16, uint32 float32) as float64."""
    if bits.dtype == np.uint16:
        return bits.view(np.float16).astype(np.float64)
    if bits.dtype == np.uint32:
        return bits.view(np.float32).astype(np.float64)
    return (bits.view(np.uint16).astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def to_bits(x, form):
    """Nearest bits of float64 numbers."""
    single = np.ascontiguousarray(x, np.float32)
    if form == "float16":
        return single.astype(np.float16).view(np.uint16)
    word = single.view(np.uint32)
    if form == "float32":
        return word
    return ((word.astype(np.uint64) + 0x7FFF + ((word >> 16) & 1)) >> 16).astype(np.uint16).view(np.int16)


def fill(shape, form, content, seed):
    """Finite values of one kind, as bits."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    if content == "outlier":
        x[..., : max(1, shape[2] // 16)] *= 300
    elif content == "constant":
        x[:] = rng.standard_normal()
    elif content == "zeros":
        x = np.where(rng.random(shape) < 0.5, 0.0, -0.0)
    elif content == "tiny":
        x *= 2.0**-22 if form == "float16" else 2.0**-135
    elif content == "offset":
        x = 1000 + 0.3 * x
    elif content == "steps":
        x = rng.integers(-3, 4, shape).astype(float)
    elif content == "bits":
        kind, infinity = FORMATS[form]
        magnitude = rng.integers(0, infinity if form != "float32" else 0x477FE000, shape)
        sign = rng.integers(0, 2, shape) << (31 if form == "float32" else 15)
        bits = (magnitude | sign).astype(np.uint32 if form == "float32" else np.uint16).view(kind)
        if form == "bfloat16":  # a group wider than 2^126 is refused
            bits = np.where(np.abs(to_float(bits)) < 2.0**125, bits, np.int16(0))
        return bits
    return to_bits(x, form)


def strided(bits, way):
    """The same values with other strides: heads first, every second channel of a wider array, channels far apart, or reversed."""
    if way == "heads-first":
        return np.ascontiguousarray(bits.transpose(1, 0, 2)).transpose(1, 0, 2)
    if way == "slice":
        wide = np.zeros((bits.shape[0] + 2, bits.shape[1] + 1, 2 * bits.shape[2]), bits.dtype)
        wide[1:-1, 1:, ::2] = bits
        return wide[1:-1, 1:, ::2]
    if way == "channels-first":
        return np.ascontiguousarray(bits.transpose(2, 1, 0)).transpose(2, 1, 0)
    if way == "reversed":
        return np.ascontiguousarray(bits[::-1, ::-1])[::-1, ::-1]
    return bits


WAYS = ("plain", "heads-first", "slice", "channels-first", "reversed")


@pytest.fixture(scope="session")
def kinds():
    """The helpers above, for tests, which cannot import each other."""
    return __import__("types").SimpleNamespace(
        to_float=to_float, to_bits=to_bits, fill=fill, strided=strided, FORMATS=FORMATS, CONTENTS=CONTENTS, WAYS=WAYS
    )
