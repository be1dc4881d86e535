"""Fit the efficiency curves to the public measurements and write ``configs/efficiency/*.yaml``: constants and their source.

    python -m harness.bench.fit_cost [folder]

Each fit minimises log(predicted / measured) with a loss that is linear for outliers, over the rows that are not held
out. Rows are weighted by m ** -1/2 because the sets sample large batches far more densely than small ones, and each source
weighs the same.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

from harness.bench import layers, measurements
from harness.bench.families import FAMILIES, Family
from thunderserve.cost import operators
from thunderserve.cost.efficiency import (
    DecodeAttentionCurve,
    Efficiency,
    ElementwiseCurve,
    MatmulCurve,
    PrefillAttentionCurve,
    read_efficiency,
)
from thunderserve.cost.step_table import Floats

PEAKS = {
    "a100": (312e12, 2039e9), "a100_sxm": (312e12, 2039e9), "a40": (149.7e12, 696e9), "h100": (989e12, 3350e9),
    "h100_sxm": (989e12, 3350e9), "l40s": (362e12, 864e9), "a6000": (154.8e12, 768e9), "rtx4090": (165.2e12, 1008e9),
    "rtxpro6000": (503.8e12, 1792e9), "v100": (112e12, 900e9),
}  # fmt: skip
"""Dense 16-bit FLOP/s and bytes/s of the cards that were measured (V100: the PCIe card)."""

KINDS = {
    "norm": ("input_layernorm", "post_attention_layernorm"),
    "rotary": ("attn_rope",),
    "activation": ("mlp_act",),
    "copy_add": ("add",),
}


def predict_matmul(curve: MatmulCurve, rows: pd.DataFrame, gpu: str) -> Floats:
    """Seconds of each row ``m, n, k``."""
    flops, bandwidth = PEAKS[gpu]
    m, n, k = (rows[name].to_numpy(float) for name in ("m", "n", "k"))
    return operators.matmul_s(curve, flops, bandwidth, m, n, k)


def _attention(curve: PrefillAttentionCurve, rows: pd.DataFrame, gpu: str) -> tuple[Floats, Floats]:
    """Seconds of one row against one key, and the seconds that grow with the new tokens."""
    flops, bandwidth = PEAKS[gpu]
    heads, kv_heads, head_dim = (rows[name].to_numpy(float) for name in ("heads", "kv_heads", "head_dim"))
    row_s: Floats = operators.row_s(curve, flops, 1.0) * head_dim
    tokens = rows["sequences"].to_numpy(float) * np.maximum(rows["chunk"].to_numpy(float), 1.0)
    moved = 2 * tokens * (2 * heads + 6 * kv_heads) * head_dim
    by_token = curve.start_keys * row_s * heads * tokens
    return row_s, by_token + operators.moved_by_attention_s(curve, bandwidth, moved)


def predict_small(curve: ElementwiseCurve, rows: pd.DataFrame, gpu: str) -> Floats:
    """Seconds of each row ``m, values``."""
    moved = 2 * rows["m"].to_numpy(float) * rows["values"].to_numpy(float)
    return operators.elementwise_s(curve, PEAKS[gpu][1], moved)


def predict_decode(curve: DecodeAttentionCurve, rows: pd.DataFrame, gpu: str) -> Floats:
    """Seconds of each row ``sequences, keys, kv_heads, head_dim``, and ``tokens_s`` from the prefill curve."""
    kv_bytes = 4 * rows["kv_heads"].to_numpy(float) * rows["head_dim"].to_numpy(float)
    sequences, keys = rows["sequences"].to_numpy(float), rows["keys"].to_numpy(float)
    keys_s = operators.decode_attention_s(curve, PEAKS[gpu][1], kv_bytes, sequences, keys)
    out: Floats = keys_s + rows["tokens_s"].to_numpy(float)
    return out


def with_tokens_s(rows: pd.DataFrame, gpu: str, prefill: PrefillAttentionCurve) -> pd.DataFrame:
    """Decode rows with the seconds that a step table counts by the new token."""
    return rows.assign(tokens_s=_attention(prefill, rows.assign(chunk=1), gpu)[1])


def predict_prefill(curve: PrefillAttentionCurve, rows: pd.DataFrame, gpu: str, *, together: bool = True) -> Floats:
    """Seconds of each row ``sequences, chunk, past, heads, kv_heads, head_dim``.

    ``together``: the chunks of one launch fill the card together, as they do; else each counts as if it were alone, as a
    step table, which adds up chunks, must have it.
    """
    row_s, tokens_s = _attention(curve, rows, gpu)
    chunk, past, count = (rows[name].to_numpy(float) for name in ("chunk", "past", "sequences"))
    heads = rows["heads"].to_numpy(float)
    counted = heads * operators.rows(curve, 1.0, chunk)
    share = count if together else np.ones_like(count)
    busy = np.maximum(counted, curve.processors * curve.tile_rows / share)
    empty = heads * operators.rows(curve, 1.0, 0.0) * curve.start_keys
    chunks_s: Floats = count * row_s * (busy * (past + (chunk + 1) / 2) + empty)
    return curve.latency_s + chunks_s + tokens_s


@dataclass(frozen=True)
class Operator:
    """How one kind of operator is fitted."""

    curve: type[Any]
    start: dict[str, float]
    predict: Callable[[Any, pd.DataFrame, str], Floats]
    size: str
    """The column whose small values are rare."""
    upper: dict[str, float] = field(default_factory=dict)
    """Bounds of the constants; small kernels and decode attention may find values in the L2 cache and pass the memory's rate."""


MATMUL = Operator(
    MatmulCurve,
    {"latency_s": 4e-6, "compute_share": 0.7, "ramp_elements": 1e5, "memory_share": 0.8, "overlap": 1.7},
    predict_matmul,
    "m",
    {"compute_share": 1.0, "overlap": 8.0, "memory_share": 0.98},
)
SMALL = Operator(ElementwiseCurve, {"latency_s": 3e-6, "memory_share": 0.6}, predict_small, "m")
SMALL_CACHED = Operator(
    ElementwiseCurve, SMALL.start | {"cache_bytes": 1e7, "cache_share": 2.5}, predict_small, "m", {"cache_share": 6.0}
)
DECODE = Operator(
    DecodeAttentionCurve, {"latency_s": 1e-5, "memory_share": 0.8, "pad_tokens": 50}, predict_decode, "keys"
)
PREFILL = Operator(
    PrefillAttentionCurve,
    {"latency_s": 1e-5, "compute_share": 0.6, "start_keys": 60, "memory_share": 0.8},
    predict_prefill,
    "sequences",
    {"compute_share": 1.0, "memory_share": 0.98},
)


def fit(operator: Operator, rows: pd.DataFrame, known: dict[str, float] | None = None) -> Any:
    """The curve that predicts ``rows`` best, given the constants that are ``known``. Rows may be of several cards of a family."""
    names = list(operator.start)
    measured = np.log(rows["seconds"].to_numpy(float))
    weights = 1 / np.sqrt(np.maximum(rows[operator.size].to_numpy(float), 8.0))
    weights /= rows.assign(w=weights).groupby("source")["w"].transform("sum").to_numpy(float)
    weights = np.sqrt(weights / weights.mean())
    groups = [(gpu, rows.index.get_indexer(part.index), part) for gpu, part in rows.groupby("gpu")]

    def residuals(logs: Floats) -> Floats:
        curve = operator.curve.model_construct(**dict(zip(names, np.exp(logs), strict=True)), **(known or {}))
        predicted = np.empty(len(rows))
        for gpu, where, part in groups:
            predicted[where] = operator.predict(curve, part, str(gpu))
        out: Floats = (np.log(predicted) - measured) * weights
        return out

    start = np.log([operator.start[name] for name in names])
    upper = np.log([operator.upper.get(name, 1e9) for name in names])
    lower = np.log([1.0 if name == "overlap" else 1e-9 for name in names])
    found = least_squares(residuals, start, bounds=(lower, upper), loss="soft_l1", f_scale=0.05, x_scale=1.0)
    values = {name: float(f"{value:.4g}") for name, value in zip(names, np.exp(found.x), strict=True)}
    return operator.curve(**values, **(known or {}))


@dataclass(frozen=True)
class Frames:
    """Everything measured by operator."""

    matmul: pd.DataFrame
    small: pd.DataFrame
    attention: pd.DataFrame
    layers: pd.DataFrame

    @classmethod
    def read(cls, root: Path) -> Frames:
        """All of them, from the folder of measurements."""
        return cls(
            measurements.matmuls(root), measurements.elementwise(root), measurements.attention(root), layers.helix(root)
        )


def curves_of(family: Family, frames: Frames, folder: Path) -> dict[str, Any]:
    """The fitted curves of one file, as plain numbers; ``folder`` holds the file it inherits."""

    def seen(frame: pd.DataFrame, cards: tuple[str, ...]) -> pd.DataFrame:
        return frame[frame["gpu"].isin(cards) & ~frame["held"]].reset_index(drop=True)

    curves: dict[str, Any] = {}
    if family.matmul:
        curves["matmul"] = fit(MATMUL, seen(frames.matmul, family.matmul)).model_dump(exclude_defaults=True)
    if family.small:
        rows = seen(frames.small, family.small)
        kinds = {kind: rows[rows["operator"].isin(names)].reset_index(drop=True) for kind, names in KINDS.items()}
        operator = SMALL_CACHED if family.l2_bytes else SMALL
        small = {
            kind: fit(operator, part).model_dump(exclude_defaults=True) for kind, part in kinds.items() if len(part)
        }
        curves["elementwise"] = {"copy_add": small["norm"]} | small
    curves |= attention_of(
        family, seen(frames.attention, family.prefill), seen(frames.attention, family.decode), folder
    )
    if family.layers:
        rows = frames.layers[(frames.layers["gpu"] == family.layers) & ~frames.layers["held"]]
        curves["matmul"] = fit_layers(family, rows, "matmul", ("compute_share", "memory_share"), curves, folder)
    if family.layers_decode:
        rows = frames.layers[(frames.layers["gpu"] == family.layers_decode) & (frames.layers["phase"] == "decode")]
        curves["decode_attention"] = fit_layers(family, rows, "decode_attention", ("memory_share",), curves, folder)
    return curves


def attention_of(family: Family, prefill: pd.DataFrame, decode: pd.DataFrame, folder: Path) -> dict[str, Any]:
    """Both attention curves: of prefill first, for decoding sequences pay for their new tokens as chunks do."""
    curves: dict[str, Any] = {}
    wave: dict[str, float] = {"processors": family.processors, "tile_rows": family.tile_rows}
    wave |= {"cache_bytes": family.l2_bytes} if family.l2_bytes else {}
    if family.prefill:
        rows = prefill[prefill["operator"] == "attn_prefill"].reset_index(drop=True)
        curves["prefill_attention"] = fit(PREFILL, rows, wave).model_dump(exclude_defaults=True)
    elif family.processors:
        parent = read_efficiency(folder / f"{family.inherits}.yaml").prefill_attention
        curves["prefill_attention"] = parent.model_dump(exclude_defaults=True) | wave
    if family.decode:
        curve = PrefillAttentionCurve(**curves["prefill_attention"])
        rows = decode[decode["operator"] == "attn_decode"]
        parts = [with_tokens_s(part, str(gpu), curve) for gpu, part in rows.groupby("gpu")]
        curves["decode_attention"] = fit(DECODE, pd.concat(parts, ignore_index=True)).model_dump(exclude_defaults=True)
    return curves


def fit_layers(
    family: Family, rows: pd.DataFrame, name: str, shares: tuple[str, ...], curves: dict[str, Any], folder: Path
) -> dict[str, Any]:
    """The curve ``name`` with the ``shares`` that explain whole layers best; all else fitted before or inherited."""
    start = read_efficiency(folder / f"{family.inherits}.yaml")
    start = Efficiency.model_validate(start.model_dump() | curves)
    gpu = layers.card(str(rows["gpu"].iloc[0]))
    measured = np.log(rows["seconds"].to_numpy(float))

    def with_shares(logs: Floats) -> Efficiency:
        found = dict(zip(shares, np.exp(logs).tolist(), strict=True))
        return start.model_copy(update={name: getattr(start, name).model_copy(update=found)})

    def residuals(logs: Floats) -> Floats:
        out: Floats = np.log(layers.layer_s(with_shares(logs), gpu, rows)) - measured
        return out

    best = least_squares(residuals, np.log(np.full(len(shares), 0.6)), bounds=(np.log(0.05), np.log(0.98)))
    values = getattr(with_shares(best.x), name).model_dump(exclude_defaults=True)
    return {key: float(f"{value:.4g}") for key, value in values.items()}


def write(name: str, family: Family, curves: dict[str, Any], folder: Path) -> None:
    """``<folder>/<name>.yaml``: the source, then the curves."""
    lines = ["# Fitted by `python -m harness.bench.fit_cost`; do not edit by hand."]
    lines += ["source: >-", *(f"  {line}" for line in textwrap.wrap(family.source, 110))]
    if family.inherits:
        lines.append(f"inherits: {family.inherits}")
    for curve, values in curves.items():
        lines.append(f"{curve}:")
        for key, value in values.items():
            inner = (
                "{" + ", ".join(f"{k}: {v!r}" for k, v in value.items()) + "}"
                if isinstance(value, dict)
                else repr(value)
            )
            lines.append(f"  {key}: {inner}")
    (folder / f"{name}.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Fit all families, in the order in which they inherit."""
    root = measurements.data_folder()
    if root is None:
        sys.stderr.write("no measurements: set THUNDERSERVE_DATA to the folder that holds gpu/\n")
        return 2
    folder = Path(arguments[0]) if arguments else Path(__file__).resolve().parents[2] / "configs" / "efficiency"
    frames = Frames.read(root)
    for name, family in FAMILIES.items():
        write(name, family, curves_of(family, frames, folder), folder)
        sys.stdout.write(f"wrote {folder / name}.yaml\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
