"""The packed head: the same products, and only where it pays."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from thunderserve.engine.replica.packed import PackedLinear, emulates, pack_head

CPU = torch.device("cpu")


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 80), inputs=st.integers(1, 70), outputs=st.integers(1, 300), bias=st.booleans())
def test_products_are_those_of_the_plain_layer(rows: int, inputs: int, outputs: int, bias: bool) -> None:
    torch.manual_seed(rows * 7919 + inputs)
    plain = nn.Linear(inputs, outputs, bias=bias)
    x = torch.randn(1, rows, inputs)
    with torch.inference_mode():
        exact = nn.functional.linear(x.double(), plain.weight.double(), plain.bias.double() if bias else None)
        found = PackedLinear(plain)(x)
    assert found.shape == (1, rows, outputs)
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-5)


def test_a_float32_head_is_replaced_and_a_tied_embedding_keeps_its_weights() -> None:
    embedding, head = nn.Embedding(50, 8), nn.Linear(8, 50, bias=False)
    head.weight = embedding.weight
    before = embedding.weight.detach().clone()
    model = SimpleNamespace(embedding=embedding, lm_head=head)
    assert pack_head(model, torch.float32, CPU)
    assert isinstance(model.lm_head, PackedLinear)
    assert torch.equal(embedding.weight, before)


class Special(nn.Linear):
    """A head that is more than a product."""


@pytest.mark.parametrize(
    ("head", "dtype", "device"),
    [
        (nn.Linear(8, 50), torch.bfloat16, "cpu"),
        (nn.Linear(8, 50), torch.float32, "cuda"),
        (Special(8, 50), torch.float32, "cpu"),
        (nn.Identity(), torch.float32, "cpu"),
    ],
)
def test_anything_else_stays(head: nn.Module, dtype: torch.dtype, device: str) -> None:
    model = SimpleNamespace(lm_head=head)
    assert not pack_head(model, dtype, torch.device(device))
    assert model.lm_head is head


def test_only_a_cpu_without_its_instructions_emulates_bfloat16() -> None:
    assert not emulates(torch.float32, CPU)
    assert not emulates(torch.bfloat16, torch.device("cuda"))
    assert emulates(torch.bfloat16, CPU) is not torch.ops.mkldnn._is_mkldnn_bf16_supported()
