"""Models against the published counts: parameters as the checkpoints hold them, and KV bytes a token."""

import pytest

from thunderserve.spec.catalogue import names
from thunderserve.spec.kv import INT4
from thunderserve.spec.load import load_model

PUBLISHED = {
    # name: parameters of the published checkpoint, KV bytes a token at 16 bit, longest context
    "llama-7b": (6_738_415_616, 524_288, 2048),
    "llama-13b": (13_015_864_320, 819_200, 2048),
    "llama-30b": (32_528_943_616, 1_597_440, 2048),
    "llama-2-70b": (68_976_648_192, 327_680, 4096),
    "llama-3.1-8b": (8_030_261_248, 131_072, 131_072),
    "llama-3.1-70b": (70_553_706_496, 327_680, 131_072),
    "qwen2.5-32b": (32_763_876_352, 262_144, 32_768),
    "mixtral-8x7b": (46_702_792_704, 131_072, 32_768),
    "opt-13b": (12_853_473_280, 819_200, 2048),
    "opt-66b": (65_719_701_504, 2_359_296, 2048),
    "smollm2-135m": (134_515_008, 23_040, 8192),
}


def test_the_catalogue_is_these_models():
    assert names("models") == sorted(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_weights_kv_and_context(name):
    parameters, kv_bytes, context = PUBLISHED[name]
    model = load_model(name)
    assert model.name == name
    assert model.num_parameters == parameters
    assert model.weight_bytes == 2 * parameters
    assert model.kv_bytes_per_token() == kv_bytes
    assert model.max_context == context
    assert model.source


def test_llama_30b_as_the_paper_needs_it():
    """65.06 GB of weights, 1.64 GB of KV for 1,024 tokens, and 4.5 of 16 bits of that with scales and zeros."""
    model = load_model("llama-30b")
    assert model.weight_bytes / 1e9 == pytest.approx(65.06, abs=0.005)
    assert 1024 * model.kv_bytes_per_token() / 1e9 == pytest.approx(1.64, abs=0.005)
    assert model.kv_bytes_per_token(INT4.bits_per_value) == model.kv_bytes_per_token() * 4.5 / 16


def test_mixtral_reads_two_of_eight_experts():
    """12.9 billion parameters are active for a token (Jiang et al. 2024)."""
    model = load_model("mixtral-8x7b")
    idle = (model.num_experts - model.experts_per_token) * model.expert_parameters * model.num_layers
    assert (model.num_parameters - idle) / 1e9 == pytest.approx(12.9, abs=0.05)
