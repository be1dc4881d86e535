"""Errors on keys and values, the benchmark, and the table of speeds that the cost model reads."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.bench import codec as bench
from thunderserve.cost.codec import CodecSpeed
from thunderserve.cost.codec_table import CodecTime, codec_speed, read_codec_times, write_codec_times
from thunderserve.kv.study.errors import attention, errors
from thunderserve.kv.study.speed import heads_first, made_up, measure
from thunderserve.spec.errors import SpecError

ROOT = Path(__file__).resolve().parents[2]


def layer(tokens=9, heads=4, kv_heads=2, dim=8):
    rng = np.random.default_rng(0)
    q = rng.standard_normal((tokens, heads, dim)).astype(np.float32)
    return q, *rng.standard_normal((2, tokens, kv_heads, dim)).astype(np.float32)


def test_attention_is_a_causal_softmax_over_shared_heads():
    """One query at a time, by the formula."""
    q, k, v = layer()
    out = attention(q, k, v)
    for t in range(9):
        for head in range(4):
            weights = np.exp([q[t, head] @ k[s, head // 2] / np.sqrt(8) for s in range(t + 1)])
            expected = sum(w * v[s, head // 2] for s, w in enumerate(weights / weights.sum()))
            np.testing.assert_allclose(out[t, head], expected, rtol=1e-4, atol=1e-5)


def test_errors_by_hand():
    q, k, v = layer()
    assert tuple(errors(q, (k, v), (k, v))) == (0, 0, 0, 0, 0)
    found = errors(q, (k, v), (k + 0.5, v * 1.1))
    assert found.key_mse == pytest.approx(0.25)
    assert found.value_relative == pytest.approx(0.1, rel=1e-4)
    assert found.output_relative == pytest.approx(0.1, rel=1e-3)  # the same shift of all keys moves no softmax


def test_more_bits_are_nearer_to_the_truth():
    """On values that the codecs were not made for; the order is the point."""
    from thunderserve.kv.wire.catalogue import load
    from thunderserve.kv.wire.packet import Decoder, Encoder

    q, k, v = layer(tokens=128, dim=64)
    k, v = k.astype(np.float16), v.astype(np.float16)
    found = []
    for name in ("raw", "int8", "int4", "int2"):
        decoded = Decoder().decode(bytes(Encoder(load(name)).encode(k, v)))
        true = k.astype(np.float32), v.astype(np.float32)
        found.append(errors(q, true, (decoded.k.astype(np.float32), decoded.v.astype(np.float32))).output_relative)
    assert found[0] == 0
    assert found[1] * 8 < found[2] < found[3] / 3


def test_a_measurement_counts_all_bytes():
    layers = made_up(64, 2, 32, total_bytes=100_000)
    assert len(layers) == 100_000 // (64 * 2 * 32 * 2)
    speed = measure("int4", layers, repeats=1)
    assert speed.bits_per_value == (4.5 + 5.0) / 2  # keys in groups of 64 tokens, values in groups of their 32 channels
    assert min(speed) > 0
    assert heads_first(layers)[0].strides[0] < heads_first(layers)[0].strides[1]


def test_speeds_come_back_from_the_file(tmp_path):
    rows = [CodecTime("int4", way, shape, rate, 10e9, "a, b") for way, shape, rate in (
        ("encode", "x", 4e9), ("encode", "y", 3e9), ("decode", "x", 2e9))]  # fmt: skip
    write_codec_times(tmp_path / "times.csv", rows)
    found = read_codec_times(tmp_path / "times.csv")
    assert found == rows
    assert codec_speed(found, "int4") == CodecSpeed(encode_share=0.15, decode_share=0.1)  # 3e9 / 2 / 10e9
    with pytest.raises(SpecError, match="did you mean 'int4'"):
        codec_speed(found, "int3")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("codec,direction\nint4,encode\n", "needs the columns bytes_per_s"),
        ("codec,direction,shape,bytes_per_s,copy_bytes_per_s,machine\nint4,encode,x,fast,1,m\n", "could not convert"),
        ("codec,direction,shape,bytes_per_s,copy_bytes_per_s,machine\nint4,encode,x,0,1,m\n", "positive"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path, text, match):
    (tmp_path / "times.csv").write_text(text)
    with pytest.raises(SpecError, match=match):
        read_codec_times(tmp_path / "times.csv")


def test_the_benchmark_prints_writes_and_says_what_it_leaves_out(tmp_path, capsys):
    small = ["--shapes", "smollm2-135m", "--tokens", "128", "--megabytes", "1", "--repeats", "1"]
    assert bench.main(["--codecs", "int4", "raw", *small, "--write", str(tmp_path / "times.csv")]) == 0
    out = capsys.readouterr().out
    assert "of copy" in out
    assert "aim" in out
    assert "errors on a real model are left out: no --model was given" in out
    assert {row.codec for row in read_codec_times(tmp_path / "times.csv")} == {"int4", "raw"}
    assert bench.main(["--shapes", "--model", str(tmp_path / "absent")]) == 0
    assert "there is no folder" in capsys.readouterr().out


def test_capturing_a_model_gives_what_its_attention_sees(tmp_path):
    """A tiny LLaMA with random weights: our attention over the captured q, k, v equals the model's own, through its output."""
    torch = pytest.importorskip("torch", reason="a model needs torch")
    transformers = pytest.importorskip("transformers", reason="a model needs transformers")
    tokenizers = pytest.importorskip("tokenizers", reason="a model needs its tokenizer")
    from thunderserve.kv.study.capture import capture

    words = {f"w{i}": i for i in range(50)} | {"[UNK]": 50}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]").save_pretrained(tmp_path)
    config = transformers.LlamaConfig(
        vocab_size=51,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    model = transformers.LlamaForCausalLM(config)
    model.save_pretrained(tmp_path)
    seen = []
    model.model.layers[0].self_attn.o_proj.register_forward_pre_hook(lambda _, args: seen.append(args[0][0]))
    text = " ".join(f"w{i % 50}" for i in range(20))
    layers = capture(tmp_path, text, 20)
    with torch.inference_mode():
        model(torch.tensor([[i % 50 for i in range(20)]]))
    assert len(layers) == 2
    assert layers[0].q.shape == (20, 4, 8)
    assert layers[0].k.shape == layers[0].v.shape == (20, 2, 8)
    np.testing.assert_allclose(attention(*layers[0]).reshape(20, 32), seen[0].detach().numpy(), rtol=1e-3, atol=1e-5)
    with pytest.raises(ValueError, match="the text has 20 tokens, 21 are wanted"):
        capture(tmp_path, text, 21)


def test_neither_nouns_nor_codecs_import_torch():
    code = (
        "import sys; import thunderserve.spec.kv; assert 'numba' not in sys.modules; "
        "from thunderserve.kv.wire.catalogue import load; from thunderserve.kv.wire.packet import Decoder, Encoder; "
        "load('int4'); load('fp8'); assert not {'torch', 'triton', 'transformers', 'zstandard'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
