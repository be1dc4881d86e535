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
from dataclasses import dataclass
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


def predict_small(curve: ElementwiseCurve, rows: pd.DataFrame, gpu: str) -> Floats:
    """Seconds of each row ``m, values``."""
    moved = 2 * rows["m"].to_numpy(float) * rows["values"].to_numpy(float)
    return operators.elementwise_s(curve, PEAKS[gpu][1], moved)


def predict_decode(curve: DecodeAttentionCurve, rows: pd.DataFrame, gpu: str) -> Floats:
    """Seconds of each row ``sequences, keys, kv_heads, head_dim``."""
    kv_bytes = 4 * rows["kv_heads"].to_numpy(float) * rows["head_dim"].to_numpy(float)
    sequences, keys = rows["sequences"].to_numpy(float), rows["keys"].to_numpy(float)
    out: Floats = curve.latency_s + kv_bytes * (keys + curve.pad_tokens * sequences) / (
        curve.memory_share * PEAKS[gpu][1]
    )
    return out


def predict_prefill(curve: PrefillAttentionCurve, rows: pd.DataFrame, gpu: str) -> Floats:
    """Seconds of each row ``sequences, chunk, past, heads, head_dim``."""
    chunk, past = rows["chunk"].to_numpy(float), rows["past"].to_numpy(float)
    pairs = rows["sequences"].to_numpy(float) * (chunk * past + chunk * (chunk + 1) / 2)
    # Chunks of one launch fill the card together, so each of them bears its part of the idle processors.
    heads, count = rows["heads"].to_numpy(float), rows["sequences"].to_numpy(float)
    busy = heads + (heads * curve.ramp_tokens + curve.ramp_head_tokens / count) / chunk
    flops = 4 * rows["head_dim"].to_numpy(float) * pairs * busy
    out: Floats = curve.latency_s + flops / (curve.compute_share * PEAKS[gpu][0])
    return out


@dataclass(frozen=True)
class Operator:
    """How one kind of operator is fitted."""

    curve: type[Any]
    start: dict[str, float]
    predict: Callable[[Any, pd.DataFrame, str], Floats]
    size: str
    """The column whose small values are rare."""


MATMUL = Operator(
    MatmulCurve,
    {"latency_s": 4e-6, "compute_share": 0.7, "ramp_elements": 1e5, "memory_share": 0.8, "overlap": 1.7},
    predict_matmul,
    "m",
)
SMALL = Operator(ElementwiseCurve, {"latency_s": 3e-6, "memory_share": 0.6}, predict_small, "m")
DECODE = Operator(
    DecodeAttentionCurve, {"latency_s": 1e-5, "memory_share": 0.8, "pad_tokens": 50}, predict_decode, "keys"
)
PREFILL = Operator(
    PrefillAttentionCurve,
    {"latency_s": 1e-5, "compute_share": 0.5, "ramp_tokens": 300, "ramp_head_tokens": 3000},
    predict_prefill,
    "chunk",
)
UPPER = {"compute_share": 1.0, "overlap": 8.0, "memory_share": 0.98}
"""Bounds of the fits; small kernels and decode attention may find their values in the L2 cache and go above 1."""


def fit(operator: Operator, rows: pd.DataFrame) -> Any:
    """The curve that predicts ``rows`` best. Several cards of one family may be among them."""
    names = list(operator.start)
    measured = np.log(rows["seconds"].to_numpy(float))
    weights = 1 / np.sqrt(np.maximum(rows[operator.size].to_numpy(float), 8.0))
    weights /= rows.assign(w=weights).groupby("source")["w"].transform("sum").to_numpy(float)
    weights = np.sqrt(weights / weights.mean())
    groups = [(gpu, rows.index.get_indexer(part.index), part) for gpu, part in rows.groupby("gpu")]

    def residuals(logs: Floats) -> Floats:
        curve = operator.curve.model_construct(**dict(zip(names, np.exp(logs), strict=True)))
        predicted = np.empty(len(rows))
        for gpu, where, part in groups:
            predicted[where] = operator.predict(curve, part, str(gpu))
        out: Floats = (np.log(predicted) - measured) * weights
        return out

    start = np.log([operator.start[name] for name in names])
    upper = np.log([1e9 if operator in (SMALL, DECODE) else UPPER.get(name, 1e9) for name in names])
    lower = np.log([1.0 if name == "overlap" else 1e-9 for name in names])
    found = least_squares(residuals, start, bounds=(lower, upper), loss="soft_l1", f_scale=0.05, x_scale=1.0)
    values = {name: float(f"{value:.4g}") for name, value in zip(names, np.exp(found.x), strict=True)}
    return operator.curve(**values)


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
        curves["matmul"] = fit(MATMUL, seen(frames.matmul, family.matmul)).model_dump()
    if family.small:
        rows = seen(frames.small, family.small)
        kinds = {kind: rows[rows["operator"].isin(names)].reset_index(drop=True) for kind, names in KINDS.items()}
        small = {kind: fit(SMALL, part).model_dump() for kind, part in kinds.items() if len(part)}
        curves["elementwise"] = {"copy_add": small["norm"]} | small
    for name, operator in (("decode", DECODE), ("prefill", PREFILL)):
        if cards := getattr(family, name):
            rows = seen(frames.attention[frames.attention["operator"] == f"attn_{name}"], cards)
            rows = rows[~((rows["source"] == "vidur") & (name == "prefill"))].reset_index(drop=True)
            curves[f"{name}_attention"] = fit(operator, rows).model_dump()
    if family.layers:
        rows = frames.layers[(frames.layers["gpu"] == family.layers) & ~frames.layers["held"]]
        curves["matmul"] = fit_layers(family, rows, "matmul", ("compute_share", "memory_share"), curves, folder)
    if family.layers_decode:
        rows = frames.layers[(frames.layers["gpu"] == family.layers_decode) & (frames.layers["phase"] == "decode")]
        curves["decode_attention"] = fit_layers(family, rows, "decode_attention", ("memory_share",), curves, folder)
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
    values = getattr(with_shares(best.x), name).model_dump()
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


def main() -> int:
    """Fit all families, in the order in which they inherit."""
    root = measurements.data_folder()
    if root is None:
        sys.stderr.write("no measurements: set THUNDERSERVE_DATA to the folder that holds gpu/\n")
        return 2
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2] / "configs" / "efficiency"
    frames = Frames.read(root)
    for name, family in FAMILIES.items():
        write(name, family, curves_of(family, frames, folder), folder)
        sys.stdout.write(f"wrote {folder / name}.yaml\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
