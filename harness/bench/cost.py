"""``harness bench cost``: how far the cost model is from public measurements, by GPU, model and operator.

Errors are |predicted / measured - 1|. Rows marked *held* were not seen by any fit. Prediction uses the shipped constants.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from harness.bench import fit_cost, layers, measurements
from thunderserve.cost.efficiency import Efficiency, efficiency_of, load_efficiency
from thunderserve.cost.network import all_reduce_s, collective_route
from thunderserve.spec.cluster import Link

CURVES = {
    "a100": "ampere-ga100", "a100_sxm": "ampere-ga100", "a40": "a40", "a6000": "ampere-ga102", "h100": "hopper-gh100",
    "h100_sxm": "hopper-gh100", "l40s": "ada-ad102", "rtx4090": "4090", "rtxpro6000": "blackwell-gb202",
    "v100": "volta-gv100",
}  # fmt: skip
"""Which efficiency file speaks for a measured card."""

OTHER_KERNELS = {
    ("aiconfigurator", "a100_sxm", "gemm"): "shorter runs than Vidur's, up to 30 % faster",
    ("vidur", "a100", "attn_prefill"): "an older attention kernel, up to 2 times slower",
    ("llmservingsim", "a6000", "attn_decode"): "a kernel that does not split long sequences",
    ("llmservingsim", "a6000", "attn_prefill"): "no fit has seen it: the A100's curve in tiles of 64 on 84 processors",
    (
        "frontier",
        "a100",
        "attn_prefill",
    ): "FlashInfer, launched from the CPU, which seems to split the keys of short chunks",
    ("aiconfigurator", "h100_sxm", "gemm"): "shorter runs than Vidur's, up to 30 % faster",
    (
        "splitwise",
        "A100-80G",
        "step prefill long",
    ): "more than 2,048 tokens: slower than twice 1,024 by up to 1.5 times, which no other source shows",
    (
        "splitwise",
        "H100",
        "step prefill long",
    ): "more than 2,048 tokens: slower than twice 1,024 by up to 1.5 times, which no other source shows",
    ("helix", "A100-40G", "layer prefill"): "another engine, 15 % faster than Vidur's operators",
    ("helix", "V100", "layer prefill"): "another engine, on the SXM card",
    ("helix", "A100-40G", "layer decode"): "another engine",
    ("vidur", "a100", "all_reduce"): "launched one by one; the link shares are a compromise",
    ("vidur", "h100", "all_reduce"): "launched one by one; the link shares are a compromise",
    ("aiconfigurator", "a100_sxm", "all_reduce"): "in CUDA graphs; the link shares are a compromise",
    ("aiconfigurator", "h100_sxm", "all_reduce"): "in CUDA graphs; the link shares are a compromise",
    ("aiconfigurator", "l40s", "all_reduce"): "PCIe, pairs only; the link shares are a compromise",
}
"""Sets that no fit has seen, most because another stack made them; they show the spread between sources."""

AIM = {"fit": 0.08, "held": 0.15}
"""Median error of a group."""


def _by_operator(frames: fit_cost.Frames) -> Iterator[pd.DataFrame]:
    """Frames with ``predicted``, one a card and kind."""
    for gpu, name in CURVES.items():
        curves = load_efficiency(name)
        yield _predicted(frames.matmul, gpu, fit_cost.MATMUL, curves.matmul)
        small = []
        for kind, operators in fit_cost.KINDS.items():
            rows = frames.small[frames.small["operator"].isin(operators)]
            small.append(_predicted(rows, gpu, fit_cost.SMALL, getattr(curves.elementwise, kind)))
        yield _added_up(pd.concat(small))
        yield from _attention(frames.attention[frames.attention["gpu"] == gpu], gpu, curves)


def _attention(rows: pd.DataFrame, gpu: str, curves: Efficiency) -> Iterator[pd.DataFrame]:
    """Attention as a step table has it: new tokens of decoding sequences cost what those of chunks do, and chunks add up."""
    prefill = curves.prefill_attention
    decode = fit_cost.with_tokens_s(rows[rows["operator"] == "attn_decode"], gpu, prefill)
    yield _predicted(decode, gpu, fit_cost.DECODE, curves.decode_attention)
    rows = rows[rows["operator"] == "attn_prefill"]
    packed = rows["sequences"].map(lambda count: "attn_prefill packed" if count > 1 else "attn_prefill")
    yield rows.assign(predicted=fit_cost.predict_prefill(prefill, rows, gpu, together=False), operator=packed)


def _added_up(rows: pd.DataFrame) -> pd.DataFrame:
    """The small kernels of a layer together: apart they are too short to matter."""
    keys = ["source", "gpu", "model", "tp", "m", "held"]
    return rows.groupby(keys)[["seconds", "predicted"]].sum().reset_index().assign(operator="small kernels")


def _predicted(rows: pd.DataFrame, gpu: str, operator: fit_cost.Operator, curve: object) -> pd.DataFrame:
    rows = rows[rows["gpu"] == gpu]
    return rows.assign(predicted=operator.predict(curve, rows, gpu))


def _collectives(root: Path) -> pd.DataFrame:
    """All-reduces over the rated links (NVLink at 8 us, PCIe at 10 us), none of them fitted card by card."""
    rated = {"a100": 300e9, "a100_sxm": 300e9, "h100": 450e9, "h100_sxm": 450e9, "l40s": 32e9}
    rows = measurements.all_reduces(root)
    # A PCIe host without peer access slows down further with every card; only pairs are comparable.
    rows = rows[(rows["bytes"] >= 64 * 1024) & ((rows["gpu"] != "l40s") | (rows["devices"] == 2))]
    predicted = []
    for gpu, devices, size in rows[["gpu", "devices", "bytes"]].itertuples(index=False):
        nvlink = gpu != "l40s"
        link = Link(latency_s=8e-6 if nvlink else 10e-6, bytes_per_s=rated[gpu])
        path = collective_route(link, "nvlink" if nvlink else "pcie")
        predicted.append(all_reduce_s(devices, size, path, switched=True))
    return rows.assign(predicted=predicted)


def _layers(root: Path) -> Iterator[pd.DataFrame]:
    rows = layers.helix(root)
    for gpu, part in rows.groupby("gpu"):
        kind = layers.card(str(gpu))
        curves: Efficiency = efficiency_of(kind)
        yield part.assign(predicted=layers.layer_s(curves, kind, part))
    yield from (layers.splitwise(root), layers.distserve(root), layers.vllm(root))


def errors(root: Path) -> pd.DataFrame:
    """``source, gpu, model, operator, set, rows, median, p90, bias``: one row a group; ``set`` is fit, held or other."""
    parts = [*_by_operator(fit_cost.Frames.read(root)), _collectives(root), *_layers(root)]
    keys = ["source", "gpu", "model", "operator", "held"]
    rows = pd.concat([part[[*keys, "seconds", "predicted"]] for part in parts if len(part)], ignore_index=True)
    rows["bias"] = rows["predicted"] / rows["seconds"] - 1
    rows["error"] = rows["bias"].abs()
    other = [key in OTHER_KERNELS for key in zip(rows["source"], rows["gpu"], rows["operator"], strict=True)]
    rows["set"] = rows["held"].map({True: "held", False: "fit"}).where(~pd.Series(other), "other")
    grouped = rows.groupby(["source", "gpu", "model", "operator", "set"])
    table = grouped.agg(
        rows=("error", "size"),
        median=("error", "median"),
        p90=("error", lambda part: part.quantile(0.9)),
        bias=("bias", "median"),
    )
    return table.reset_index()


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """The same by GPU and set, each group of ``errors`` counted once: the median group and how many keep the aim."""
    aim = table["set"].map(AIM).fillna(1.0)
    rows = table.assign(kept=table["median"] <= aim)
    out = rows.groupby(["gpu", "set"]).agg(
        groups=("median", "size"), kept=("kept", "sum"), median=("median", "median"), p90=("p90", "median")
    )
    return out.reset_index()


CLASSES = dict.fromkeys((*measurements.MATMULS, "lm_head", "gemm"), "projections")
"""What the operators of ``errors`` are called in the closing table; the others keep their names."""


def closing(table: pd.DataFrame) -> pd.DataFrame:
    """By operator, and then all operators and all whole layers and steps: the median group, the worst, how many keep the aim."""
    rows = table[table["set"] != "other"].assign(operator=table["operator"].replace(CLASSES))
    whole = rows["operator"].str.match("step|layer")
    parts = [rows, rows[~whole].assign(operator="all operators"), rows[whole].assign(operator="all layers and steps")]
    out = []
    for part in parts:
        judged = part.assign(kept=part["median"] <= part["set"].map(AIM))
        found = judged.groupby(["operator", "set"]).agg(
            groups=("median", "size"), kept=("kept", "sum"), median=("median", "median"), worst=("median", "max"),
            p90=("p90", "median"),
        )  # fmt: skip
        out.append(found.reset_index())
    return pd.concat(out, ignore_index=True)


def main(arguments: list[str]) -> int:
    """Compare the cost model with public measurements."""
    parser = argparse.ArgumentParser(prog="harness bench cost", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    return run(as_json=parser.parse_args(arguments).json)


def run(*, as_json: bool = False, root: Path | None = None) -> int:
    """Print the tables. 0 when printed, 3 when there are no measurements to compare with."""
    root = root or measurements.data_folder()
    if root is None:
        sys.stderr.write("no measurements: set THUNDERSERVE_DATA to the folder that holds gpu/\n")
        return 3
    table = errors(root)
    if as_json:
        tables = {"groups": table, "summary": summary(table), "closing": closing(table)}
        records = {name: part.to_dict("records") for name, part in tables.items()}
        sys.stdout.write(json.dumps(records) + "\n")
        return 0
    _print("Error by GPU, model and operator", table)
    _print("By GPU: how many groups keep the aim (8 % fit, 15 % held)", summary(table))
    for (source, gpu, operator), why in OTHER_KERNELS.items():
        sys.stdout.write(f"other: {source}, {gpu}, {operator}: {why}\n")
    _print("By operator, and overall: median and worst group; 'other' sets are left out", closing(table))
    return 0


def _print(title: str, table: pd.DataFrame) -> None:
    from rich.console import Console
    from rich.table import Table

    drawn = Table(title=title, show_lines=False)
    for column in table.columns:
        drawn.add_column(column, justify="left" if table[column].dtype.kind in "OTUV" else "right")
    for row in table.itertuples(index=False):
        drawn.add_row(*(f"{value:.1%}" if isinstance(value, float) else str(value) for value in row))
    Console(width=120).print(drawn)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
