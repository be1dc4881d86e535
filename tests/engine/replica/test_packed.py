"""Packed layers: the same products, and only where it pays."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from thunderserve.engine.replica import packed
from thunderserve.engine.replica.packed import CACHE_CAPACITY, PackedLinear, emulates, pack

CPU = torch.device("cpu")


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 300), inputs=st.integers(1, 70), outputs=st.integers(1, 300), bias=st.booleans())
def test_products_are_those_of_the_plain_layer(rows: int, inputs: int, outputs: int, bias: bool) -> None:
    torch.manual_seed(rows * 7919 + inputs)
    plain = nn.Linear(inputs, outputs, bias=bias)
    x = torch.randn(1, rows, inputs)
    with torch.inference_mode():
        exact = nn.functional.linear(x.double(), plain.weight.double(), plain.bias.double() if bias else None)
        found = PackedLinear(plain)(x)
    assert found.shape == (1, rows, outputs)
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU has no bfloat16 instructions")
@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 300), inputs=st.integers(1, 70), outputs=st.integers(1, 300), bias=st.booleans())
def test_products_in_bfloat16_are_rounded_once(rows: int, inputs: int, outputs: int, bias: bool) -> None:
    torch.manual_seed(rows * 7919 + inputs)
    plain = nn.Linear(inputs, outputs, bias=bias, dtype=torch.bfloat16)
    x = torch.randn(1, rows, inputs, dtype=torch.bfloat16)
    with torch.inference_mode():
        exact = nn.functional.linear(x.double(), plain.weight.double(), plain.bias.double() if bias else None)
        found = PackedLinear(plain)(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), exact, rtol=2**-8, atol=1e-4)


class Special(nn.Linear):
    """A layer that is more than a product."""


class Small(nn.Module):
    """An embedding, layers and a head that shares the embedding's weights."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 8, dtype=dtype)
        self.layers = nn.ModuleList([nn.Linear(8, 8, dtype=dtype), Special(8, 8, dtype=dtype), nn.Identity()])
        self.lm_head = nn.Linear(8, 50, bias=False, dtype=dtype)
        self.lm_head.weight = self.embedding.weight


@pytest.mark.parametrize(
    ("capability", "bfloat16", "dtype", "replaced"),
    [
        ("AVX512", True, torch.float32, ["layers.0", "lm_head"]),
        ("AVX512", False, torch.float32, ["layers.0", "lm_head"]),
        ("AVX2", False, torch.float32, ["lm_head"]),
        ("AVX512", False, torch.bfloat16, []),
        ("AVX2", False, torch.bfloat16, []),
        ("AVX512", True, torch.float16, []),
    ],
)
def test_layers_are_replaced_where_it_pays(
    monkeypatch: pytest.MonkeyPatch, capability: str, bfloat16: bool, dtype: torch.dtype, replaced: list[str]
) -> None:
    monkeypatch.setattr(packed, "capability", lambda: capability)
    monkeypatch.setattr(packed, "emulates", lambda dtype, _: dtype == torch.bfloat16 and not bfloat16)
    model = Small(dtype)
    before = model.embedding.weight.detach().clone()
    assert pack(model, dtype, CPU) == len(replaced)
    assert [name for name, one in model.named_modules() if isinstance(one, PackedLinear)] == replaced
    assert torch.equal(model.embedding.weight, before)
    assert type(model.layers[1]) is Special


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU has no bfloat16 instructions")
def test_all_layers_of_a_bfloat16_model_are_replaced_where_the_cpu_has_the_instructions() -> None:
    assert pack(Small(torch.bfloat16), torch.bfloat16, CPU) == 2


def test_nothing_is_replaced_on_a_gpu() -> None:
    assert pack(Small(torch.float32), torch.float32, torch.device("cuda")) == 0


def test_only_a_cpu_without_its_instructions_emulates_bfloat16() -> None:
    assert not emulates(torch.float32, CPU)
    assert not emulates(torch.bfloat16, torch.device("cuda"))
    assert emulates(torch.bfloat16, CPU) is not torch.ops.mkldnn._is_mkldnn_bf16_supported()


def test_every_shape_of_layer_is_prepared_for_every_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "capability", lambda: "AVX512")
    model = Small(torch.float32)
    model.layers.extend([nn.Linear(8, 8), nn.Linear(8, 3)])
    assert pack(model, torch.float32, CPU) == 4
    seen: list[tuple[int, ...]] = []
    plainly = PackedLinear.forward
    monkeypatch.setattr(
        PackedLinear, "forward", lambda self, x: seen.append((*self.shape, *x.shape)) or plainly(self, x)
    )
    packed.prepare(model, torch.float32, [4, 68])
    assert sorted(seen) == [(3, 8, 1, 4, 8), (3, 8, 1, 68, 8), (8, 8, 1, 4, 8), (8, 8, 1, 68, 8)]  # and not the head


AGAIN = """
import torch
from torch import nn
from thunderserve.engine.replica import packed
packed.capability = lambda: "AVX512"
model = nn.Sequential(nn.Linear(16, 16))
assert packed.pack(model, torch.float32, torch.device("cpu")) == 1
for words in ("first", "again"):
    print(words, flush=True)
    packed.prepare(model, torch.float32, range(4, 1104))
"""


def test_machine_code_is_made_once_for_each_number_of_rows() -> None:
    environment = {name: value for name, value in os.environ.items() if name != CACHE_CAPACITY}
    command = [sys.executable, "-c", AGAIN]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment | {"ONEDNN_VERBOSE": "profile_create"}
    )
    first, again = done.stdout.split("again\n")
    assert first.count("create:cache_miss") >= 1100
    assert again.count("create:cache_hit") >= 1100
    assert "create:cache_miss" not in again
