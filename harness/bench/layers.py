"""Whole layers and whole steps that others measured, and what the roofline says of the same shapes.

HELIX (Apache-2.0): per-layer tables of LLaMA-30B and Llama-2-70B; its T4 and V100 rows are quoted from its files. Splitwise
(MIT): prompt and token times of Llama-2-70B. DistServe (Apache-2.0): coefficients fitted to OPT. LLMServingSim (MIT): a
vLLM 0.19 run.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from thunderserve.cost.card import Card
from thunderserve.cost.efficiency import Efficiency
from thunderserve.cost.engine import ENGINES, Engine
from thunderserve.cost.evaluate import decode_s
from thunderserve.cost.roofline import Roofline
from thunderserve.cost.shapes import StageShape
from thunderserve.cost.step_table import Floats, StepTable
from thunderserve.spec.cluster import Cluster, Device, Link
from thunderserve.spec.gpu import Gpu
from thunderserve.spec.model import ModelSpec
from thunderserve.spec.plan import Batching, Phase, Replica, Stage

MEAN_PROMPT, MEAN_KEYS = 763, 880
"""HELIX profiled on the Azure conversation trace as it filters it: prompts of 763 tokens, about 880 keys a decoding sequence."""

QUOTED = [
    ("T4", "llama-30b", "prefill", 1000, 41e-3), ("T4", "llama-30b", "prefill", 4000, 163e-3),
    ("T4", "llama-30b", "decode", 2, 4.7e-3), ("T4", "llama-30b", "decode", 20, 7.2e-3),
    ("T4", "llama-30b", "decode", 100, 14.6e-3), ("T4", "llama-30b", "decode", 200, 25e-3),
    ("V100", "llama-30b", "prefill", 1000, 12e-3), ("V100", "llama-30b", "prefill", 4000, 48e-3),
    ("V100", "llama-30b", "decode", 2, 1.8e-3), ("V100", "llama-30b", "decode", 20, 2.3e-3),
    ("V100", "llama-30b", "decode", 100, 6.5e-3), ("V100", "llama-30b", "decode", 200, 9e-3),
]  # fmt: skip
"""A layer on cards whose full tables are not at hand: HELIX, ``simulator/model_manager/llama1_30b/{t4,v100}``."""

_LLAMA = {"head_dim": 128, "max_context": 4096}
MODELS = {
    "llama-30b": ModelSpec(
        name="llama-30b", num_layers=60, hidden_size=6656, intermediate_size=17920, num_heads=52, num_kv_heads=52,
        vocab_size=32000, **_LLAMA,
    ),
    "llama-2-70b": ModelSpec(
        name="llama-2-70b", num_layers=80, hidden_size=8192, intermediate_size=28672, num_heads=64, num_kv_heads=8,
        vocab_size=32000, **_LLAMA,
    ),
    "llama-3.1-8b": ModelSpec(
        name="llama-3.1-8b", num_layers=32, hidden_size=4096, intermediate_size=14336, num_heads=32, num_kv_heads=8,
        vocab_size=128256, **_LLAMA,
    ),
    "opt-13b": ModelSpec(
        name="opt-13b", num_layers=40, hidden_size=5120, intermediate_size=20480, num_heads=40, num_kv_heads=40,
        vocab_size=50272, mlp_matrices=2, position_embeddings=2050, biases=True, **_LLAMA,
    ),
    "opt-66b": ModelSpec(
        name="opt-66b", num_layers=64, hidden_size=9216, intermediate_size=36864, num_heads=72, num_kv_heads=72,
        vocab_size=50272, mlp_matrices=2, position_embeddings=2050, biases=True, **_LLAMA,
    ),
}  # fmt: skip

_CARDS = {
    "A100-40G": ("ampere-ga100", 40, 1555e9, 312e12, "nvlink"), "A100-80G": ("ampere-ga100", 80, 2039e9, 312e12, "nvlink"),
    "H100": ("hopper-gh100", 80, 3350e9, 989e12, "nvlink"), "L4": ("ada-ad104", 24, 300e9, 121e12, "pcie4"),
    "T4": ("turing-tu104", 16, 320e9, 65e12, "pcie3"), "V100": ("volta-gv100", 16, 900e9, 125e12, "nvlink"),
    "RTXPRO6000": ("blackwell-gb202", 96, 1792e9, 503.8e12, "pcie5"),
}  # fmt: skip


def card(name: str) -> Gpu:
    """A card of the measured sets, by its data sheet."""
    family, gib, bandwidth, flops, fabric = _CARDS[name]
    return Gpu.model_validate(
        {"name": name, "family": family, "memory_bytes": gib * 2**30, "memory_bytes_per_s": bandwidth, "flops": flops}
        | {"fabric": fabric, "price_per_hour": 0.0}
    )


def helix(root: Path) -> pd.DataFrame:
    """``gpu, model, phase, tokens, seconds`` of one layer; times of a whole millisecond only from 5 ms on."""
    rows: list[tuple[str, str, str, int, float]] = list(QUOTED)
    for folder, model in (("llama1_30b", "llama-30b"), ("llama2_70b", "llama-2-70b")):
        for name, gpu in (("a100", "A100-40G"), ("l4", "L4")):
            for file, phase in (("prompt", "prefill"), ("decode", "decode")):
                text = (root / f"helix/{folder}/{name}/{file}_bs2time.csv").read_text()
                pairs = [line.split(",") for line in text.split()]
                rows += [(gpu, model, phase, int(size), float(ms) * 1e-3) for size, ms in pairs]
    frame = pd.DataFrame(rows, columns=["gpu", "model", "phase", "tokens", "seconds"])
    rounded = (frame["phase"] == "prefill") | (frame["tokens"] > 100)
    frame = frame[(frame["seconds"] > 0) & (~rounded | (frame["seconds"] >= 5e-3))]
    return frame.assign(held=frame["model"] == "llama-2-70b", source="helix", tp=1, operator="layer " + frame["phase"])


def layer_s(curves: Efficiency, gpu: Gpu, rows: pd.DataFrame) -> Floats:
    """One layer for each of HELIX's rows."""
    out = np.empty(len(rows))
    one = Card(gpu, curves)
    for number, (model, phase, tokens) in enumerate(rows[["model", "phase", "tokens"]].itertuples(index=False)):
        shape = StageShape(MODELS[model], 1, 1, first=False, last=False)
        n = np.array([float(tokens)])
        seconds = one.layers_s(shape, n) + one.launch_s(shape)
        if phase == "prefill":
            chunk = np.array([float(min(tokens, MEAN_PROMPT))])
            seconds = seconds + n * (chunk + 1) / 2 * one.pair_s(shape, chunk) + n / chunk * one.chunk_s(shape)
        else:
            seconds = seconds + one.decode_s(shape, n, n * MEAN_KEYS)
        out[number] = seconds[0]
    return out


def table(gpu: str, model: str, tp: int, engine: Engine, pp: int = 1) -> StepTable:
    """The roofline's step table of one replica on one node of ``gpu``."""
    kind = card(gpu)
    beta = {"nvlink": 300e9 if kind.flops < 5e14 else 450e9}.get(kind.fabric, 32e9)
    cluster = Cluster(
        name=gpu,
        gpus={gpu: kind},
        devices=tuple(Device(id=i, gpu=gpu, node="n") for i in range(tp * pp)),
        inside={"n": Link(latency_s=8e-6, bytes_per_s=beta)},
    )
    spec = MODELS[model]
    stages = tuple(
        Stage(devices=tuple(range(s * tp, (s + 1) * tp)), num_layers=spec.num_layers // pp) for s in range(pp)
    )
    replica = Replica(stages=stages, phase=Phase.BOTH, batching=Batching(policy="chunked"))
    return Roofline(engine).step_table(spec, replica, cluster, max_tokens=16384, max_sequences=512, max_context=8192)


def prefill_s(steps: StepTable, prompt: float, batch: float = 1) -> float:
    """A step that holds ``batch`` whole prompts."""
    pair = np.interp(prompt, steps.chunk_knots, steps.pair_s[0])
    chunks = batch * (steps.chunk_s[0] + prompt * (prompt + 1) / 2 * pair)
    tokens = np.interp(prompt * batch, steps.token_knots, steps.token_s[0])
    head = np.interp(batch, steps.logit_knots, steps.logit_s[0])
    return float(steps.fixed_s[0] + tokens + head + chunks)


def decode_step_s(steps: StepTable, batch: float, keys: float) -> float:
    """A step of ``batch`` sequences that read ``keys`` in all."""
    return float(decode_s(steps, int(batch), np.array([keys]))[0, 0])


Engines = Mapping[str, Engine]

REGULAR_TOKENS = 2048
"""Splitwise's prompt steps above this size follow another law: on 8 H100 2,048 tokens take 137 ms, 4,096 take 390 ms.

What is added grows with the number of cards and not with the square of a prompt: probably their all-reduces of more than 32 MB,
which in the other sources take a half or less of what this would make them. No fit sees those rows.
"""


def splitwise(root: Path, engines: Engines = ENGINES) -> pd.DataFrame:
    """Prompt and token steps of Llama-2-70B, measured and predicted. Held: TP 4; the engines were fitted to TP 2 and TP 8."""
    raw = pd.read_csv(root / "splitwise/perf_model.csv")
    raw = raw[raw["prompt_size"] * raw["batch_size"] <= 16384]
    shape = ["prompt_size", "batch_size", "token_size"]
    rows = []
    for hardware, gpu in (("a100-80gb", "A100-80G"), ("h100-80gb", "H100")):
        for tp in (2, 4, 8):
            part = raw[(raw["hardware"] == hardware) & (raw["tensor_parallel"] == tp)]
            steps = table(gpu, "llama-2-70b", tp, engines[f"splitwise-{gpu[:4].lower()}"])
            # A prompt does not know how many tokens will follow it: those rows repeat one measurement.
            prompts = part.groupby(shape[:2])["prompt_time"].median()
            for prompt, batch, prompt_ms in prompts.reset_index().itertuples(index=False):
                name = "step prefill" if prompt * batch <= REGULAR_TOKENS else "step prefill long"
                rows.append((gpu, tp, name, prompt_ms * 1e-3, prefill_s(steps, prompt, batch)))
            for prompt, batch, new, token_ms in (
                part.groupby(shape)["token_time"].median().reset_index().itertuples(index=False)
            ):
                keys = batch * (prompt + new / 2)
                rows.append((gpu, tp, "step decode", token_ms * 1e-3, decode_step_s(steps, batch, keys)))
    frame = pd.DataFrame(rows, columns=["gpu", "tp", "operator", "seconds", "predicted"])
    return frame.assign(source="splitwise", model="llama-2-70b", held=frame["tp"] == 4)


def distserve(root: Path, engines: Engines = ENGINES) -> pd.DataFrame:
    """DistServe's own engine: its coefficients on a grid of shapes, and the prediction. Held: OPT-66B."""
    fitted = json.loads((root / "distserve/profiler-a100-80g.distserve.json").read_text())
    rows = []
    for model in ("opt-13b", "opt-66b"):
        for degree, law in fitted[f"facebook/{model}"].items():
            steps = table("A100-80G", model, int(degree), engines["distserve"])
            a, b, c = law["prefill"]
            for prompt in (128, 256, 512, 1024, 1536):
                measured = (a + b * prompt + c * prompt**2) * 1e-3
                rows.append((model, int(degree), "step prefill", measured, prefill_s(steps, prompt)))
            for batch in (1, 4, 16, 64, 128):
                small = batch < law["decoding_large_small_bs_threshold"]
                a, b, c = law["decoding_smallbs" if small else "decoding_largebs"]
                measured = (a + b * batch * 512 + c * batch) * 1e-3
                rows.append((model, int(degree), "step decode", measured, decode_step_s(steps, batch, batch * 512)))
    frame = pd.DataFrame(rows, columns=["model", "tp", "operator", "seconds", "predicted"])
    return frame.assign(source="distserve", gpu="A100-80G", held=frame["model"] == "opt-66b")


def vllm_tail(root: Path) -> pd.DataFrame:
    """Decode-only steps at the end of a vLLM 0.19 run of Llama-3.1-8B (RTX PRO 6000): ``sequences, keys, seconds``.

    All running requests gain one token a step, so each finished request gives one equation on the step rate by second;
    the rates that satisfy all 300 best are taken, from the time on when no prompt is left.
    """
    from scipy.optimize import lsq_linear

    path = root / "llmservingsim/bench/RTXPRO6000/Llama-3.1-8B/vllm/requests.jsonl.gz"
    with gzip.open(path, "rt") as lines:
        run = pd.DataFrame([json.loads(line) for line in lines])
    start, first, last = run["queued_ts"].min(), run["first_token_ts"].to_numpy(), run["last_token_ts"].to_numpy()
    first, last, new = first - start, last - start, run["output_toks"].to_numpy()
    edges = np.linspace(0, last.max(), 65)
    overlap = np.minimum(last[:, None], edges[1:]) - np.maximum(first[:, None], edges[:-1])
    rate = lsq_linear(np.clip(overlap, 0, None), new - 1, bounds=(5, 200)).x
    rows = []
    for middle, steps_per_s in zip((edges[1:] + edges[:-1]) / 2, rate, strict=True):
        live = (first <= middle) & (last > middle)
        if middle > first.max() + 1 and live.any():
            done = (middle - first[live]) / (last - first)[live]
            keys = float((run["input_toks"].to_numpy()[live] + done * new[live]).sum())
            rows.append((int(live.sum()), keys, 1 / steps_per_s))
    return pd.DataFrame(rows, columns=["sequences", "keys", "seconds"])


def vllm(root: Path, engines: Engines = ENGINES) -> pd.DataFrame:
    """That run's decode steps, measured and predicted; the engine's constants were fitted to them."""
    tail = vllm_tail(root)
    steps = table("RTXPRO6000", "llama-3.1-8b", 1, engines["vllm-v1"])
    predicted = [decode_step_s(steps, b, c) for b, c in tail[["sequences", "keys"]].itertuples(index=False)]
    frame = tail.assign(predicted=predicted, source="llmservingsim", gpu="RTXPRO6000", model="llama-3.1-8b", tp=1)
    return frame.assign(operator="step decode", held=False)
