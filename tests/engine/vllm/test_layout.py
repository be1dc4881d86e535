"""Tokens of blocks, read and written, against their plain definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from thunderserve.engine.vllm.layout import Strided, Tiled, beside, measured
from thunderserve.engine.vllm.probe import measure

DIM = 16


def tiled_write(order: Tensor):  # type: ignore[no-untyped-def]
    """A cache that keeps what it is given at ``order``."""

    def write(k: Tensor, v: Tensor, cache: Tensor) -> None:
        cache.view(-1)[order] = torch.cat([k.flatten(), v.flatten()])

    return write


@settings(max_examples=40, deadline=None)
@given(
    order=st.permutations(range(4)), tokens=st.integers(1, 30), first=st.integers(0, 20), seed=st.integers(0, 9),
    size=st.sampled_from([4, 16]),
)  # fmt: skip
def test_any_physical_order_of_axes_and_any_part(
    order: list[int], tokens: int, first: int, seed: int, size: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logical = (20, 3, size, 2 * DIM)
    memory = torch.zeros([logical[axis] for axis in order])
    cache = memory.permute([order.index(axis) for axis in range(4)])
    layout = beside(cache, DIM)
    blocks = torch.randperm(20, generator=generator)[:16].tolist()
    k, v = torch.randn(2, tokens, 3, DIM, generator=generator)
    layout.write(blocks, first, k, v)
    plain = torch.zeros(logical)
    for number in range(tokens):
        block, place = blocks[(first + number) // size], (first + number) % size
        plain[block, :, place, :DIM], plain[block, :, place, DIM:] = k[number], v[number]
    assert torch.equal(cache, plain)
    read = layout.read(blocks, first, first + tokens)
    assert torch.equal(read[0], k)
    assert torch.equal(read[1], v)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["transposed", "tiles"])
def test_a_measured_layout_is_found_and_obeyed(dtype: torch.dtype, kind: str) -> None:
    size, heads = 32, 2
    count = size * DIM
    keys = torch.arange(count).reshape(size, DIM)
    if kind == "transposed":
        keys = keys.reshape(DIM, size).T
    else:
        keys = keys.flatten()[torch.randperm(count, generator=torch.Generator().manual_seed(0))].reshape(size, DIM)
    order = torch.cat([keys.flatten(), count + torch.arange(count)])
    found = measure(tiled_write(order), size, DIM, dtype)
    assert torch.equal(found[0], keys)
    cache = torch.zeros(5, heads, size, 2 * DIM, dtype=dtype)
    layout = measured(cache, *found)
    assert isinstance(layout, Strided if kind == "transposed" else Tiled)
    k, v = torch.randn(2, 70, heads, DIM).to(dtype)
    layout.write((4, 0, 2), 5, k, v)
    for head in range(heads):
        token = 5 + 40  # in the second block
        inside = cache[0, head].flatten()
        assert torch.equal(inside[keys[token - 32]], k[40, head])
        assert torch.equal(inside[count + (token - 32) * DIM :][:DIM], v[40, head])
    read = layout.read((4, 0, 2), 5, 75)
    assert torch.equal(read[0], k)
    assert torch.equal(read[1], v)
    layout.write((4, 0, 2), 5, k[:, 1:], v[:, 1:], first_head=1)
    assert torch.equal(layout.read((4, 0, 2), 5, 75)[0], k)


def test_a_cache_that_loses_values_is_not_understood() -> None:
    def write(k: Tensor, v: Tensor, cache: Tensor) -> None:
        cache.view(-1)[: k.numel()] = k.flatten()

    with pytest.raises(ValueError, match="not understood"):
        measure(write, 32, DIM, torch.float32)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="side by side"):
        beside(torch.zeros(2, 1, 16, 576), 512)
    with pytest.raises(ValueError, match="do not lie in 1 blocks"):
        beside(torch.zeros(2, 1, 16, 8), 4).read((0,), 0, 17)
    with pytest.raises(ValueError, match="not contiguous"):
        measured(
            torch.zeros(2, 3, 32, 4, 8).transpose(2, 3)[:, :, 0], torch.zeros(4, 4).long(), torch.zeros(4, 4).long()
        )
