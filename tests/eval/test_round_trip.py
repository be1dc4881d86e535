"""What crosses the link is the KV of ``context[:-1]``, once, and nothing else is touched."""

from __future__ import annotations

import itertools
import math

import pytest

torch = pytest.importorskip("torch")

from eval.answering import Answering, encode  # noqa: E402
from eval.kv_error import kv_error  # noqa: E402
from eval.prefill import Prefiller  # noqa: E402
from eval.round_trip import RoundTrip  # noqa: E402
from eval.score import score  # noqa: E402
from eval.weights import Layers, Weights, cache_of  # noqa: E402
from thunderserve.spec.errors import SpecError  # noqa: E402
from thunderserve.spec.kv import CODECS  # noqa: E402

CONTEXT = "Question: what is the capital of France? And what would a bear do there?\nAnswer:"
PARIS = " Paris, of course"


def equal(a: Layers, b: Layers) -> bool:
    return all(torch.equal(x, y) for x, y in zip(itertools.chain(*a), itertools.chain(*b), strict=True))


@pytest.fixture(scope="module")
def layers(weights: Weights) -> Layers:
    return Prefiller(weights)([encode(weights, CONTEXT)])[0]


def test_exact_is_no_round_trip_at_all(layers: Layers) -> None:
    assert RoundTrip("exact")(layers).layers is layers


@pytest.mark.parametrize("wire", ["float16", "bfloat16"])
@pytest.mark.parametrize("codec", ["raw", "lossless"])
def test_raw_and_lossless_round_to_16_bit_and_nothing_more(layers: Layers, codec: str, wire: str) -> None:
    arrived = RoundTrip(codec, wire)(layers)
    rounded = tuple(tuple(x.to(getattr(torch, wire)).float() for x in pair) for pair in layers)
    assert equal(arrived.layers, rounded)  # type: ignore[arg-type]
    assert not equal(arrived.layers, layers), "rounding was to be seen"


def test_raw_changes_nothing_when_32_bit_are_sent(layers: Layers) -> None:
    assert equal(RoundTrip("raw", "float32")(layers).layers, layers)


def test_bytes_are_those_of_16_bit_and_those_sent(layers: Layers) -> None:
    tokens = len(CONTEXT.encode())
    values = 2 * 3 * 2 * 16 * tokens  # keys and values, layers, KV heads, head
    for codec in CODECS:
        arrived = RoundTrip(codec)(layers)
        assert arrived.raw_bytes == 2 * values
        if codec == "raw":
            assert 0 < arrived.wire_bytes - arrived.raw_bytes <= 3 * 256, "a header and checksum a layer"
        elif codec != "lossless":
            assert arrived.wire_bytes < 0.75 * arrived.raw_bytes


@pytest.mark.parametrize("codec", ["int8", "int4", "int2", "fp8", "int4-rotated"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_not_finite_are_refused_by_layer(layers: Layers, codec: str, bad: float) -> None:
    keys = layers[2][0].clone()
    keys[1, 7, 3] = bad
    spoilt = (*layers[:2], (keys, layers[2][1]))
    with pytest.raises(FloatingPointError, match=rf"{codec} cannot carry layer 2"):
        RoundTrip(codec)(spoilt)


def test_what_raw_lets_through_is_refused_before_it_is_scored(weights: Weights) -> None:
    """The exact bits of a NaN cross the link under ``raw``; argmax of NaN is choice 0, which would be right every time."""
    answering = Answering(weights, ["raw"])
    handed = answering.hand_over([encode(weights, CONTEXT)], ["raw"])[0]["raw"]
    for _, values in handed.start.layers:
        values[0, 0, 0] = math.nan
    with pytest.raises(FloatingPointError, match="logits that are not finite"):
        answering.likelihoods([handed], [encode(weights, PARIS)])
    with pytest.raises(FloatingPointError, match="logits that are not finite"):
        answering.generate([handed], stops=[], max_tokens=4)


def test_an_unknown_codec_is_named_with_the_nearest() -> None:
    with pytest.raises(SpecError, match=r"no such KV codec \(got 'int5'\); did you mean 'int"):
        RoundTrip("int5")


def test_all_but_the_last_token_crosses(each: Weights) -> None:
    context = encode(each, CONTEXT)
    handed = Answering(each, ["raw", "int2"]).hand_over([context], ["raw", "int2"])[0]
    for one in handed.values():
        assert one.start.last_token == context[-1]
        assert {keys.shape[1] for keys, _ in one.start.layers} == {len(context) - 1}
    expected = RoundTrip("int2")(Prefiller(each)([context[:-1]])[0])
    assert equal(handed["int2"].start.layers, expected.layers)
    assert handed["int2"].wire_bytes == expected.wire_bytes


def test_the_sender_keeps_full_precision_and_the_receiver_never_sees_it(weights: Weights) -> None:
    context = encode(weights, CONTEXT)
    answering = Answering(weights, ["exact", "int2"])
    before = [tuple(x.clone() for x in pair) for pair in answering.prefill([context[:-1]])[0]]
    handed = answering.hand_over([context], ["exact", "int2"])[0]
    assert equal(answering.prefill([context[:-1]])[0], tuple(before)), "the round trip changed the sender's KV"  # type: ignore[arg-type]
    assert answering.prefill.computed_tokens == len(context) - 1, "one prefill for all codecs"

    first = encode(weights, PARIS)[:1]
    exact, coded = (answering.likelihoods([handed[codec]], [first])[0][0].total for codec in ("exact", "int2"))
    assert abs(exact - coded) > 1e-3, "a continuation of one token must meet the codec"


@pytest.mark.parametrize("codec", ["exact", "int2"])
def test_the_last_token_is_computed_from_what_arrived(each: Weights, codec: str) -> None:
    """By hand: the received cache, then token by token, without padding or batches."""
    context, continuation = encode(each, CONTEXT), encode(each, PARIS)
    answering = Answering(each, [codec])
    handed = answering.hand_over([context], [codec])[0][codec]
    past, _ = cache_of([handed.start.layers])
    total = 0.0
    with torch.inference_mode():
        for place, (given, wanted) in enumerate(zip((context[-1], *continuation[:-1]), continuation, strict=True)):
            position = torch.tensor([[len(context) - 1 + place]])
            logits = each.model(input_ids=torch.tensor([[given]]), position_ids=position, past_key_values=past).logits
            total += logits[0, -1].double().log_softmax(-1)[wanted].item()
    assert answering.likelihoods([handed], [continuation])[0][0].total == pytest.approx(total, abs=2e-4)


def test_rows_of_a_batch_do_not_see_one_another(each: Weights) -> None:
    texts = ("x", CONTEXT, "A story about a river, a bridge and a bear that would not cross.", "Q: who?")
    contexts = [encode(each, text) for text in texts]
    choices = [encode(each, text) for text in (" Paris", " a bear", "?")]
    codecs = ["raw", "int4"]
    one, many = Answering(each, codecs), Answering(each, codecs)
    together = many.hand_over(contexts, codecs)
    singles = [one.hand_over([context], codecs)[0] for context in contexts]
    for codec in codecs:
        batch = many.likelihoods([handed[codec] for handed in together], choices)
        for row, handed in zip(batch, singles, strict=True):
            alone = [one.likelihoods([handed[codec]], [choice])[0][0].total for choice in choices]
            assert [each_.total for each_ in row] == pytest.approx(alone, abs=3e-4)
        said = many.generate([handed[codec] for handed in together], stops=["\n"], max_tokens=12)
        assert said == [one.generate([handed[codec]], stops=["\n"], max_tokens=12)[0] for handed in singles]


def test_an_empty_continuation_has_no_likelihood(weights: Weights) -> None:
    handed = Answering(weights, ["raw"]).hand_over([encode(weights, CONTEXT)], ["raw"])[0]["raw"]
    with pytest.raises(ValueError, match="without tokens"):
        score(weights, [handed.start], [()])


def test_kv_error_is_the_norm_of_the_difference_by_layer_and_head(weights: Weights, layers: Layers) -> None:
    found = kv_error(weights, CONTEXT, "int4")
    arrived = RoundTrip("int4")(layers).layers
    assert found.keys.shape == found.values.shape == (3, 2)
    for layer in range(3):
        for head in range(2):
            x, y = layers[layer][1][head].double().numpy(), arrived[layer][1][head].double().numpy()
            assert found.values[layer, head] == pytest.approx(((y - x) ** 2).sum() ** 0.5 / (x**2).sum() ** 0.5)
    assert not kv_error(weights, CONTEXT, "exact").keys.any()
    errors = [kv_error(weights, CONTEXT, codec).keys.mean() for codec in ("raw", "int8", "int4", "int2")]
    assert errors == sorted(errors)
