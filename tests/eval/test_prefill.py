"""A context's KV is the same however it is computed: alone, after a known prefix, or in a padded batch."""

from __future__ import annotations

import itertools

import pytest

torch = pytest.importorskip("torch")

from eval.answering import encode  # noqa: E402
from eval.prefill import Prefiller, Tokens, shared_prefix  # noqa: E402
from eval.weights import Layers, Weights, cache_of  # noqa: E402

STORY = "A long story about a river, a bridge and a bear that would not cross either of them. "


def furthest(a: Layers, b: Layers) -> float:
    """Largest absolute difference of any key or value."""
    pairs = zip(itertools.chain(*a), itertools.chain(*b), strict=True)
    return max(float((x - y).abs().max()) for x, y in pairs)


def plain(weights: Weights, tokens: Tokens) -> Layers:
    """By one ordinary forward pass over the whole context, without any class of ours."""
    with torch.inference_mode():
        past = weights.model(input_ids=torch.tensor([list(tokens)]), use_cache=True).past_key_values
    return tuple((layer.keys[0], layer.values[0]) for layer in past.layers)


def test_a_prefix_in_common_is_computed_once_and_changes_nothing(each: Weights) -> None:
    contexts = [encode(each, STORY + end) for end in ("Q: who?\nA:", "Q: who?\nA: the bear\nQ: where?\nA:", "Q: w")]
    reusing = Prefiller(each)
    found = [reusing([context])[0] for context in contexts]
    alone = [Prefiller(each)([context])[0] for context in contexts]
    assert max(furthest(a, b) for a, b in zip(found, alone, strict=True)) < 2e-5
    common = shared_prefix(contexts[0], contexts[1])
    assert reusing.computed_tokens == len(contexts[1]) + len(contexts[0]) - common, "the third lies in what is known"


def test_it_is_what_the_model_computes_by_itself(weights: Weights) -> None:
    context = encode(weights, STORY)
    assert furthest(Prefiller(weights)([context])[0], plain(weights, context)) < 2e-5


def test_padding_on_the_left_changes_nothing(each: Weights) -> None:
    contexts = [encode(each, text) for text in ("x", STORY, "Q: what is the capital of France?\nA:", STORY[:31])]
    together = Prefiller(each, together=True)(contexts)
    alone = [Prefiller(each)([context])[0] for context in contexts]
    assert [layers[0][0].shape[1] for layers in together] == [len(context) for context in contexts]
    assert max(furthest(a, b) for a, b in zip(together, alone, strict=True)) < 2e-5


def test_no_more_contexts_are_remembered_than_said_and_the_latest_are(weights: Weights) -> None:
    prefill = Prefiller(weights, kept=2)
    contexts = [encode(weights, letter * 20) for letter in "abc"]
    for context in contexts:
        prefill([context])
    assert prefill.computed_tokens == 60
    prefill(contexts[1:])
    assert prefill.computed_tokens == 60, "b and c are known"
    prefill([contexts[0]])
    assert prefill.computed_tokens == 80, "a was forgotten"


def test_a_context_of_one_token_sends_nothing(weights: Weights) -> None:
    empty = Prefiller(weights)([()])[0]
    assert {tuple(x.shape) for pair in empty for x in pair} == {(2, 0, 16)}


def test_values_that_are_not_finite_are_refused_where_they_arise(weights: Weights) -> None:
    projection = weights.model.model.layers[1].self_attn.v_proj.weight
    kept = projection[0, 0].item()
    try:
        with torch.no_grad():
            projection[0, 0] = float("nan")
        with pytest.raises(FloatingPointError, match="layer 1 computed keys or values that are not finite"):
            Prefiller(weights)([encode(weights, STORY)])
    finally:
        with torch.no_grad():
            projection[0, 0] = kept


def test_one_cache_of_several_contexts_masks_what_is_padding(weights: Weights) -> None:
    rows = [Prefiller(weights)([encode(weights, text)])[0] for text in ("abc", "abcdefg")]
    past, mask = cache_of(rows)
    assert mask.tolist() == [[0, 0, 0, 0, 1, 1, 1], [1] * 7]
    assert torch.equal(past.layers[2].values[0, :, 4:], rows[0][2][1])
    assert not past.layers[2].values[0, :, :4].any()
