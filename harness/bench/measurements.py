"""Public measurements on real GPUs as tidy frames, in SI, and which of them the fit may see.

The data lie outside the project (``$THUNDERSERVE_DATA``, or ``../shared/data`` beside the checkout); each set has its own licence
there. Frames share the columns ``source, gpu, model, tp, operator, seconds, held``; the others are the shape of the operator.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd

MATMULS = ("attn_pre_proj", "attn_post_proj", "mlp_up_proj", "mlp_down_proj")
VIDUR_HELD = {"CodeLlama-34b-Instruct-hf", "Meta-Llama-3-70B"}
"""Left out of the A100 fit, as are all rows at TP 8; on A40 and H100 Llama-2-70b-hf is left out."""


def data_folder() -> Path | None:
    """The folder of GPU measurements, or None where there is none."""
    given = os.environ.get("THUNDERSERVE_DATA")
    folder = Path(given) if given else Path(__file__).resolve().parents[3] / "shared" / "data"
    return folder / "gpu" if (folder / "gpu").is_dir() else None


def _plain(path: Path) -> pd.DataFrame:
    frame = pd.read_csv(path)
    return frame.rename(columns=lambda name: name.replace("time_stats.", ""))


def vidur(root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(matmul, elementwise) rows of Vidur's ``mlp.csv`` and of Frontier's, medians; MIT."""
    matmul: list[pd.DataFrame] = []
    small: list[pd.DataFrame] = []
    for path in sorted(root.glob("vidur/compute/*/*/*/mlp.csv.gz")):
        gpu, model = path.parts[-4], path.parts[-2]
        products, rest = _vidur_file(_plain(path))
        held_models = VIDUR_HELD if gpu == "a100" else {"Llama-2-70b-hf"}
        for frame, target in ((products, matmul), (rest, small)):
            held = (model in held_models) | ((gpu == "a100") & (frame["tp"] == 8))
            target.append(frame.assign(source="vidur", gpu=gpu, model=model, held=held))
    return pd.concat(matmul, ignore_index=True), pd.concat(small, ignore_index=True)


def _vidur_file(raw: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    raw = raw.drop_duplicates(["num_tokens", "num_tensor_parallel_workers"])
    tp, hidden = raw["num_tensor_parallel_workers"], raw["n_embd"]
    head_dim = hidden // raw["n_head"]
    width, narrow = raw["n_head"] / tp * head_dim, (raw["n_kv_head"] / tp).clip(lower=1) * head_dim
    inner = raw["n_expanded_embd"] / tp
    gates = raw["use_gated_mlp"].map({True: 2, False: 1})
    shapes = {
        "attn_pre_proj": (width + 2 * narrow, hidden),
        "attn_post_proj": (hidden, width),
        "mlp_up_proj": (gates * inner, hidden),
        "mlp_down_proj": (hidden, inner),
    }
    values = {
        "input_layernorm": 2 * hidden,
        "post_attention_layernorm": 2 * hidden,
        "attn_rope": 2 * (width + narrow),
        "mlp_act": (gates + 1) * inner,
        "add": 3 * hidden,
    }
    common = {"tp": tp, "m": raw["num_tokens"]}

    def rows(name: str, extra: dict[str, Any]) -> pd.DataFrame:
        return pd.DataFrame({**common, **extra, "operator": name, "seconds": raw[f"{name}.median"] * 1e-3})

    products = pd.concat([rows(name, {"n": n, "k": k}) for name, (n, k) in shapes.items()])
    rest = pd.concat([rows(name, {"values": v}) for name, v in values.items() if f"{name}.median" in raw])
    return products, rest


def _llama_8b(layer: str, tokens: pd.Series, micros: pd.Series, tp: int) -> pd.DataFrame:
    """One operator of Llama-3.1-8B as LLMServingSim names it, as a matmul row or (n = 0) an elementwise row."""
    shapes = {
        "q_proj": (4096 / tp, 4096), "gate_proj": (14336 / tp, 4096), "up_proj": (14336 / tp, 4096),
        "qkv_proj": (6144 / tp, 4096), "gate_up_proj": (28672 / tp, 4096),
        "o_proj": (4096, 4096 / tp), "down_proj": (4096, 14336 / tp), "lm_head": (128256 / tp, 4096),
    }  # fmt: skip
    names = {"qkv_proj": "attn_pre_proj", "q_proj": "attn_pre_proj", "o_proj": "attn_post_proj"}
    names |= {"gate_up_proj": "mlp_up_proj", "gate_proj": "mlp_up_proj", "up_proj": "mlp_up_proj"}
    names |= {"down_proj": "mlp_down_proj", "layernorm": "input_layernorm", "rotary_emb": "attn_rope"}
    names |= {"act_fn": "mlp_act"}
    values = {"layernorm": 4 * 4096, "rotary_emb": 2 * 5120 / tp, "act_fn": 3 * 14336 / tp}
    n, k = shapes.get(layer, (0.0, 0.0))
    row = {"m": tokens, "n": n, "k": k, "values": values.get(layer, 0.0)}
    return pd.DataFrame(row | {"operator": names.get(layer, layer), "seconds": micros * 1e-6, "tp": tp})


def llmservingsim(root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(matmul, elementwise) rows of Llama-3.1-8B on A6000 (TP2 held), RTX 4090 and RTX PRO 6000; MIT."""
    parts = []
    for tp in (1, 2):
        raw = pd.read_csv(root / f"llmservingsim/v0/A6000/meta-llama/Llama-3.1-8B/tp{tp}/layers.csv.gz")
        raw = raw[raw["input"].isin([*range(1, 33), *range(40, 2049, 8)])]
        for name in ("q_proj", "o_proj", "gate_proj", "down_proj", "lm_head"):
            rows = raw[raw["layer_name"] == name]
            frame = _llama_8b(name, rows["input"], rows["latency(ns)"] * 1e-3, tp)
            parts.append(frame.assign(gpu="a6000", held=tp == 2))
    for card, tp in (("RTX4090", 1), ("RTXPRO6000", 1), ("RTXPRO6000", 2)):
        raw = pd.read_csv(root / f"llmservingsim/perf/{card}/Llama-3.1-8B/tp{tp}/dense.csv.gz")
        for layer, rows in raw.groupby("layer"):
            frame = _llama_8b(str(layer), rows["tokens"], rows["time_us"], tp)
            parts.append(frame.assign(gpu=card.lower(), held=tp == 2))
    rows = pd.concat(parts, ignore_index=True).assign(source="llmservingsim", model="Llama-3.1-8B")
    return rows[rows["n"] > 0], rows[rows["values"] > 0]


def aiconfigurator_matmuls(root: Path) -> pd.DataFrame:
    """GEMMs of aiconfigurator (Apache-2.0). Held: every third matrix. Rows the L2 cache can hold on L40S are left out."""
    parts = []
    for path in sorted(root.glob("aiconfigurator/*/gemm/*/gemm_perf.csv.gz")):
        raw = pd.read_csv(path)
        gpu = path.parts[-4]
        raw = raw[(raw["gemm_dtype"] == "bfloat16") & (raw["n"] * raw["k"] >= 1e6)]
        if gpu == "l40s":
            raw = raw[2 * raw["n"] * raw["k"] > 96 * 2**20]
        held = raw.groupby(["n", "k"]).ngroup() % 3 == 2
        parts.append(raw[["m", "n", "k"]].assign(seconds=raw["latency"] * 1e-3, gpu=gpu, held=held))
    return pd.concat(parts, ignore_index=True).assign(source="aiconfigurator", model="-", tp=1, operator="gemm")


def v100_matmuls(root: Path) -> pd.DataFrame:
    """V100-PCIe GEMMs of APEX+ (MIT). Held: every third matrix."""
    raw = pd.read_csv(root / "apex_plus/comp/V100-PCIE-16GB/gemm_0.csv.gz")
    raw = raw[(raw["n"] * raw["k"] >= 4e6) & (raw["n"] >= 512) & (raw["k"] >= 512) & (raw["k"] <= 32768)]
    held = raw.groupby(["n", "k"]).ngroup() % 3 == 2
    rows = raw[["m", "n", "k"]].assign(seconds=raw["time(us)"] * 1e-6, held=held)
    return rows.assign(source="apex_plus", gpu="v100", model="-", tp=1, operator="gemm")


def matmuls(root: Path) -> pd.DataFrame:
    """All matrix products: ``m, n, k``."""
    frames = [vidur(root)[0], llmservingsim(root)[0], aiconfigurator_matmuls(root), v100_matmuls(root)]
    return pd.concat(frames, ignore_index=True)


def elementwise(root: Path) -> pd.DataFrame:
    """All small kernels: ``m`` tokens, ``values`` read and written a token."""
    return pd.concat([vidur(root)[1], llmservingsim(root)[1]], ignore_index=True)


def _attention(path: Path, source: str, gpu: str, model: str, held: bool, *, total_keys: bool) -> pd.DataFrame:
    """Rows of an attention profile in Vidur's layout; ``total_keys`` where the cache size counts the whole batch."""
    raw = _plain(path)
    tp = raw["num_tensor_parallel_workers"]
    prefill = raw["is_prefill"]
    thirds = raw["prefill_chunk_size"].where(prefill, raw["batch_size"]) // 8 % 3 if not total_keys else 0
    keys = raw["kv_cache_size"] if total_keys else raw["batch_size"] * (raw["kv_cache_size"] + 1)
    return pd.DataFrame(
        {
            "tp": tp, "heads": raw["n_q_head"] / tp, "kv_heads": (raw["n_kv_head"] / tp).clip(lower=1),
            "head_dim": raw["n_embd"] // raw["n_q_head"], "sequences": raw["batch_size"], "keys": keys,
            "chunk": raw["prefill_chunk_size"], "past": raw["kv_cache_size"],
            "operator": prefill.map({True: "attn_prefill", False: "attn_decode"}),
            "seconds": raw["attn_prefill.median"].where(prefill, raw["attn_decode.median"]) * 1e-3,
            "source": source, "gpu": gpu, "model": model, "held": held | (thirds == 2),
        }
    )  # fmt: skip


def _aiconfigurator_attention(path: Path, gpu: str) -> pd.DataFrame:
    raw = pd.read_csv(path)
    raw = raw[(raw["kv_cache_dtype"] == "bfloat16") & (raw["head_dim"] == 128) & (raw["num_heads"] >= 4)]
    if "window_size" in raw:
        raw = raw[raw["window_size"] == 0]
    kv_heads = raw["num_key_value_heads"].where(raw["num_key_value_heads"] > 0, raw["num_heads"])
    raw, kv_heads = raw[raw["num_heads"] / kv_heads <= 8], kv_heads[raw["num_heads"] / kv_heads <= 8]
    prefill = "context" in path.name
    return pd.DataFrame(
        {
            "tp": 1, "heads": raw["num_heads"], "kv_heads": kv_heads, "head_dim": 128, "sequences": raw["batch_size"],
            "keys": raw["batch_size"] * (raw["isl"] + raw["step"]), "chunk": raw["isl"], "past": raw["step"],
            "operator": "attn_prefill" if prefill else "attn_decode", "seconds": raw["latency"] * 1e-3,
            "source": "aiconfigurator", "gpu": gpu, "model": "-", "held": raw["num_heads"].isin([12, 24, 48]),
        }
    )  # fmt: skip


def _chunk_profile(root: Path, card: str, tp: int) -> pd.DataFrame:
    raw = pd.read_csv(root / f"llmservingsim/perf/{card}/Llama-3.1-8B/tp{tp}/attention.csv.gz")
    raw = raw[(raw["n_decode"] == 0) | (raw["prefill_chunk"] == 0)]
    prefill = raw["n_decode"] == 0
    return pd.DataFrame(
        {
            "tp": tp, "heads": 32 / tp, "kv_heads": 8 / tp, "head_dim": 128,
            "sequences": raw["n_decode"].where(~prefill, 1), "keys": raw["n_decode"] * raw["kv_decode"],
            "chunk": raw["prefill_chunk"], "past": raw["kv_prefill"],
            "operator": prefill.map({True: "attn_prefill", False: "attn_decode"}), "seconds": raw["time_us"] * 1e-6,
            "source": "llmservingsim", "gpu": card.lower(), "model": "Llama-3.1-8B", "held": tp == 2,
        }
    )  # fmt: skip


def attention(root: Path) -> pd.DataFrame:
    """All attention kernels: decode (``sequences``, ``keys``) and prefill (``sequences`` chunks of ``chunk`` after ``past``).

    On Ada cards decode rows whose KV the large L2 cache holds from one repetition to the next are left out.
    Held: other head counts (aiconfigurator), TP2 (LLMServingSim), every third batch or chunk size (Vidur, Frontier).
    """
    history = "vidur/compute/a100/meta-llama/Llama-2-70b-hf/attention_tp2_from_history.csv.gz"
    parts = [
        _attention(root / history, "vidur", "a100", "Llama-2-70b-hf", False, total_keys=False),
        _attention(
            root / "frontier/compute/a800/meta-llama/Llama-2-7b-hf/attention.csv.gz",
            "frontier", "a100", "Llama-2-7b-hf", False, total_keys=False,
        ),
    ]  # fmt: skip
    for tp in (1, 2):
        path = root / f"llmservingsim/v0/A6000/meta-llama/Llama-3.1-8B/tp{tp}/attention.csv.gz"
        parts.append(_attention(path, "llmservingsim", "a6000", "Llama-3.1-8B", tp == 2, total_keys=True))
    tables = sorted(root.glob("aiconfigurator/*/attention/*/*_attention_perf.csv.gz"))
    parts += [_aiconfigurator_attention(path, path.parts[-4]) for path in tables]
    parts += [_chunk_profile(root, card, tp) for card, tp in (("RTX4090", 1), ("RTXPRO6000", 1), ("RTXPRO6000", 2))]
    frame = pd.concat(parts, ignore_index=True).dropna(subset=["seconds"])
    moved = 4 * frame["kv_heads"] * frame["head_dim"] * frame["keys"]
    cached = (frame["gpu"].isin(["l40s", "rtx4090"])) & (frame["operator"] == "attn_decode")
    return frame[(frame["seconds"] > 0) & ~(cached & (moved > 1e6) & (moved < 3e8))]


def all_reduces(root: Path) -> pd.DataFrame:
    """All-reduces inside one node of NVLink or PCIe: ``devices``, ``bytes``; Vidur (medians) and aiconfigurator (graph)."""
    parts = []
    for folder, gpu in (("a100_dgx", "a100"), ("h100_dgx", "h100")):
        raw = _plain(root / f"vidur/network/{folder}/all_reduce.csv.gz")
        raw = raw[raw["num_workers"] == raw["devices_per_node"]]
        raw = raw.rename(columns={"num_workers": "devices", "size": "bytes", "all_reduce.median": "ms"})
        medians = raw.groupby(["devices", "bytes"])[["ms"]].median().reset_index()
        parts.append(medians.assign(source="vidur", gpu=gpu, held=False))
    for path in sorted(root.glob("aiconfigurator/*/comm/*/custom_allreduce_perf.csv.gz")):
        raw = pd.read_csv(path)
        raw = raw[raw["backend"] == "vllm_graph"]
        rows = raw.rename(columns={"num_gpus": "devices", "message_size": "bytes", "latency": "ms"})
        rows = rows[["devices", "bytes", "ms"]]
        parts.append(rows.assign(source="aiconfigurator", gpu=path.parts[-4], held=False))
    frame = pd.concat(parts, ignore_index=True)
    return frame.assign(seconds=frame["ms"] * 1e-3, model="-", tp=frame["devices"], operator="all_reduce")
