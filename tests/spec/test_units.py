"""Quantities with units: values that are exact, and refusals in words."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunderserve.spec.noun import Noun
from thunderserve.spec.units import (
    BYTES,
    BYTES_PER_S,
    FLOPS,
    PER_S,
    SECONDS,
    USD_PER_HOUR,
    Bytes,
    BytesPerSecond,
    Seconds,
)


@pytest.mark.parametrize(
    ("dimension", "text", "value"),
    [
        (BYTES, "48 GiB", 48 * 2**30),
        (BYTES, "48 GB", 48e9),
        (BYTES, "1.5KiB", 1536.0),
        (BYTES_PER_S, "696 GB/s", 696e9),
        (BYTES_PER_S, "40 Gbit/s", 5e9),
        (BYTES_PER_S, "40 Gbps", 5e9),
        (FLOPS, "149.7 TFLOP/s", 149.7e12),
        (FLOPS, "149.7 TFLOPS", 149.7e12),
        (SECONDS, "200 ms", 0.2),
        (SECONDS, "10 us", 1e-5),
        (SECONDS, " 2 min ", 120.0),
        (USD_PER_HOUR, "0.403 USD/h", 0.403),
        (PER_S, "4 requests/s", 4.0),
        (PER_S, "30 requests/min", 0.5),
    ],
)
def test_a_quantity_is_the_double_nearest_to_what_is_written(dimension, text, value):
    assert dimension.parse(text) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("fast", "is not a bandwidth; write a number and a unit, as in '696 GB/s'"),
        ("696", "has no unit; write for example '696 GB/s'"),
        ("696 GB", "has the unit 'GB', but a bandwidth is wanted; write for example '696 GB/s'"),
        ("696 ms", "has the unit 'ms', but a bandwidth is wanted; write for example '696 GB/s'"),
        ("696 gb/s", "has the unit 'gb/s', but a bandwidth is wanted; write for example '696 GB/s'"),
    ],
)
def test_a_foreign_unit_is_refused_in_words(text, reason):
    with pytest.raises(ValueError) as caught:
        BYTES_PER_S.parse(text)
    assert str(caught.value) == reason


class Thing(Noun):
    size_bytes: Bytes
    memory_bytes_per_s: BytesPerSecond = 1.0
    wait_s: Seconds = 0.0


def test_short_keys_carry_units_and_full_names_plain_numbers():
    assert Thing.model_validate({"size": "1 KiB", "memory_bandwidth": "8 bit/s"}).memory_bytes_per_s == 1.0
    assert Thing.model_validate({"size_bytes": 1024, "wait": "1 ms"}).wait_s == 0.001


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"size": 1024}, "size has no unit; write for example '48 GiB', or size_bytes with a plain SI number"),
        ({"size": "1 KiB", "size_bytes": 1024}, "gives size_bytes twice"),
        ({"size": "-1 B"}, "greater than or equal to 0"),
        ({"size_bytes": math.inf}, "is not a memory size"),
        ({"size_bytes": True}, "is not a memory size"),
    ],
)
def test_a_noun_refuses_numbers_without_units_and_impossible_ones(content, reason):
    with pytest.raises(ValueError, match=reason):
        Thing.model_validate(content)


@given(st.floats(min_value=1e-6, max_value=1e9), st.sampled_from(sorted(BYTES.units)))
def test_every_unit_scales_what_stands_before_it(number, unit):
    assert BYTES.parse(f"{number!r} {unit}") == pytest.approx(number * BYTES.units[unit], rel=1e-15)
