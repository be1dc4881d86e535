"""Step times from the kernel tables that the PyPI package ``aiconfigurator-core`` ships (extra ``measured``; Apache-2.0).

Matrix products, attention of prompts and of decoding sequences, and all-reduces inside a node, measured with vLLM's kernels at 16
bit. The Parquet files are read from the package's folder; the package itself is never imported. A table is a grid; between and
beyond its points the roofline carries the shape and the table the level: each measured time is divided by the roofline's, and
that ratio is interpolated. Small kernels, experts and the engine are the roofline's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from thunderserve.cost.card import Card
from thunderserve.cost.engine import DEFAULT_ENGINE, Engine
from thunderserve.cost.roofline import Roofline, roofline_card
from thunderserve.cost.shapes import StageShape
from thunderserve.cost.step_table import Floats
from thunderserve.spec.errors import SpecError, nearest
from thunderserve.spec.gpu import Gpu

SYSTEMS = {"A100-80G": "a100_sxm", "H100": "h100_sxm", "H200": "h200_sxm", "L40S": "l40s"}
"""Our GPU types that the package has measured with vLLM."""
NEIGHBOURS = 4
"""Measured matrices (n, k) that vote on one between them, by inverse squared distance of logarithms."""


def measured(engine: Engine = DEFAULT_ENGINE) -> Roofline:
    """A ``CostSource`` with measured kernels. Raises SpecError, saying what to install, when the tables are not there."""
    data_folder()
    return Roofline(engine, measured_card)


@cache
def data_folder() -> Path:
    """The package's folder of measurements."""
    found = find_spec("aiconfigurator_core")
    if found is None or not found.submodule_search_locations:
        remedy = "pip install 'thunderserve[measured]', or take the roofline"
        raise SpecError("measured kernel tables need the package aiconfigurator-core", remedy=remedy)
    return Path(found.submodule_search_locations[0]) / "systems" / "data"


@lru_cache(maxsize=16)
def measured_card(gpu: Gpu) -> MeasuredCard:
    """The tables of a GPU type. Raises SpecError for a type that was not measured."""
    if gpu.name not in SYSTEMS:
        remedy = f"{nearest(gpu.name, SYSTEMS)} Or take the roofline for this cluster"
        raise SpecError("there are no measured kernel tables for this GPU", value=gpu.name, remedy=remedy)
    return MeasuredCard(roofline_card(gpu), data_folder() / SYSTEMS[gpu.name])


def _rows(folder: Path, kind: str, table: str, columns: str, where: str) -> dict[str, Floats]:
    """Columns of the newest vLLM version of a table."""
    import duckdb

    versions = sorted(folder.glob(f"{kind}/vllm/*/{table}.parquet"), key=lambda path: _version(path.parent.name))
    if not versions:
        raise SpecError(
            f"has no vLLM table {table}", file=folder / kind, remedy="pip install 'aiconfigurator-core>=0.12'"
        )
    # The path comes from a folder listing, the rest from this module.
    source = f"read_parquet('{versions[-1]}')"
    connection = duckdb.connect()
    present = [name for name, *_ in connection.execute(f"SELECT * FROM {source} LIMIT 0").description or []]  # noqa: S608
    if "window_size" in present:
        where += " AND window_size = 0"  # sliding windows read less than all keys
    found = connection.execute(f"SELECT {columns} FROM {source} WHERE {where} AND latency > 0").fetchnumpy()  # noqa: S608
    return {name: np.asarray(values, dtype=float) for name, values in found.items()}


def _version(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in name.split(".") if part.isdigit())


@dataclass(frozen=True)
class MeasuredCard:
    """``Kernels`` from tables, with a roofline to lean on."""

    roofline: Card
    folder: Path

    @property
    def decode_is_affine(self) -> bool:
        """Tables are what they are."""
        return False

    def layers_s(self, shape: StageShape, tokens: Floats) -> Floats:
        """The roofline's sum, its dense products scaled to the tables."""
        model = shape.model
        total = self.roofline.layers_s(shape, tokens)
        matrices = shape.attention_matmuls() | (shape.mlp_matmuls() if model.num_experts == 1 else {})
        for matrix in matrices.values():
            own = self.roofline.matmul(tokens, matrix, model.dtype_bytes)
            total = total + shape.num_layers * own * (self._matmul_ratio(matrix, tokens) - 1)
        return total

    def head_s(self, shape: StageShape, sequences: Floats) -> Floats:
        """The LM head, scaled likewise."""
        matrix = (shape.model.vocab_size / shape.tp, float(shape.model.hidden_size))
        return self.roofline.head_s(shape, sequences) * self._matmul_ratio(matrix, sequences)

    def _matmul_ratio(self, matrix: tuple[float, float], rows: Floats) -> Floats:
        """Measured over roofline for a matrix (n, k): the nearest measured ones, each interpolated in the rows."""
        table = matmul_ratios(self)
        shapes = np.array(list(table))
        distance = np.sum((np.log(shapes) - np.log(matrix)) ** 2, axis=1)
        near = np.argsort(distance, kind="stable")[:NEIGHBOURS]
        weights = 1 / (distance[near] + 1e-6)
        logs = [np.interp(np.log(rows), *table[tuple(shapes[i])]) for i in near]
        out: Floats = np.exp(np.average(logs, axis=0, weights=weights))
        return out

    def pair_s(self, shape: StageShape, chunk: Floats) -> Floats:
        """The roofline's, scaled to the table at whole prompts of this length."""
        lengths, logs = prefill_ratios(self, shape.heads, shape.kv_heads)
        out: Floats = self.roofline.pair_s(shape, chunk) * np.exp(np.interp(np.log(chunk), lengths, logs))
        return out

    def launch_s(self, shape: StageShape) -> float:
        """The roofline's latency."""
        return self.roofline.launch_s(shape)

    def chunk_s(self, shape: StageShape) -> float:
        """The roofline's, too."""
        return self.roofline.chunk_s(shape)

    def decode_s(self, shape: StageShape, sequences: Floats, keys: Floats) -> Floats:
        """The roofline's, scaled to the table at this batch and mean length."""
        batches, lengths, logs = decode_ratios(self, shape.heads, shape.kv_heads)
        mean = np.log(np.maximum(keys / sequences, 1.0))
        by_batch = np.array([np.interp(mean, lengths, row) for row in logs])
        where = np.interp(np.log(sequences), batches, np.arange(len(batches), dtype=float))
        low = np.minimum(where.astype(int), len(batches) - 2)
        lower = np.take_along_axis(by_batch, low[None], axis=0)[0]
        upper = np.take_along_axis(by_batch, low[None] + 1, axis=0)[0]
        elsewhere = beside_keys_s(self.roofline, shape, sequences)
        whole = elsewhere + self.roofline.decode_s(shape, sequences, keys)
        out: Floats = np.maximum(whole * np.exp(lower + (where - low) * (upper - lower)) - elsewhere, 0.0)
        return out

    def all_reduce_s(self, devices: int, num_bytes: Floats) -> Floats | None:
        """vLLM's custom all-reduce in a CUDA graph; None for a number of cards that was not measured."""
        table = all_reduces(self.folder)
        if devices not in table:
            return None
        sizes, seconds = table[devices]
        out: Floats = np.exp(np.interp(np.log(num_bytes), np.log(sizes), np.log(seconds)))
        beyond: Floats = np.maximum(num_bytes / sizes[-1], 1.0)
        return out * beyond


Line = tuple[Floats, Floats]


def beside_keys_s(card: Card, shape: StageShape, tokens: Floats) -> Floats:
    """Of attention of ``tokens`` new tokens, what a step table counts by the step and by the token."""
    return card.launch_s(shape) + shape.num_layers * card.attention_tokens_s(shape, tokens)


@lru_cache(maxsize=16)
def matmul_ratios(card: MeasuredCard) -> dict[tuple[float, float], Line]:
    """By matrix (n, k): logarithms of the rows and of measured over roofline."""
    rows = _rows(card.folder, "gemm", "gemm_perf", "m, n, k, latency", "gemm_dtype = 'bfloat16' AND n * k >= 1e6")
    ratios = np.log(rows["latency"] * 1e-3 / card.roofline.matmul(rows["m"], (rows["n"], rows["k"]), 2))
    table: dict[tuple[float, float], Line] = {}
    order = np.lexsort((rows["m"], rows["k"], rows["n"]))
    keys = np.stack([rows["n"], rows["k"]], axis=1)[order]
    starts = np.flatnonzero(np.any(np.diff(keys, axis=0, prepend=-1), axis=1))
    for part in np.split(order, starts[1:]):
        key = (float(rows["n"][part[0]]), float(rows["k"][part[0]]))
        table[key] = (np.log(rows["m"][part]), ratios[part])
    return table


def _attention_rows(
    card: MeasuredCard, table: str, heads: float, kv_heads: float
) -> tuple[dict[str, Floats], StageShape]:
    """Rows of the measured head counts nearest to ours (128 wide, 16 bit), and a one-layer shard of that shape."""
    columns = "batch_size, isl, step, num_heads, num_key_value_heads, latency"
    where = "head_dim = 128 AND attn_dtype = 'bfloat16' AND kv_cache_dtype = 'bfloat16'"
    rows = _rows(card.folder, "attention", table, columns, where)
    kv = np.where(rows["num_key_value_heads"] > 0, rows["num_key_value_heads"], rows["num_heads"])
    distance = np.log(kv / kv_heads) ** 2 + np.log(rows["num_heads"] / kv / (heads / kv_heads)) ** 2
    nearest_rows = np.isclose(distance, distance.min())
    return {name: values[nearest_rows] for name, values in rows.items()} | {"kv": kv[nearest_rows]}, _shard(
        float(rows["num_heads"][nearest_rows][0]), float(kv[nearest_rows][0])
    )


def _shard(heads: float, kv_heads: float) -> StageShape:
    from thunderserve.spec.model import ModelSpec

    model = ModelSpec(
        name="shard", num_layers=1, hidden_size=128, intermediate_size=128, num_heads=int(heads),
        num_kv_heads=int(kv_heads), head_dim=128, vocab_size=1, max_context=1,
    )  # fmt: skip
    return StageShape(model, 1, 1, first=False, last=False)


@lru_cache(maxsize=64)
def prefill_ratios(card: MeasuredCard, heads: float, kv_heads: float) -> Line:
    """Logarithms of prompt lengths (one prompt a launch) and of measured over roofline, of the query-key pairs alone."""
    rows, shard = _attention_rows(card, "context_attention_perf", heads, kv_heads)
    alone = (rows["batch_size"] == 1) & (rows["step"] == 0)
    order = np.argsort(rows["isl"][alone])
    lengths, seconds = rows["isl"][alone][order], rows["latency"][alone][order] * 1e-3
    lengths, first = np.unique(lengths, return_index=True)
    pairs = lengths * (lengths + 1) / 2
    rest = beside_keys_s(card.roofline, shard, lengths) + card.roofline.chunk_s(shard)
    body = np.maximum(seconds[first] - rest, 0.2 * seconds[first])
    return np.log(lengths), np.log(body / (pairs * card.roofline.pair_s(shard, lengths)))


@lru_cache(maxsize=64)
def decode_ratios(card: MeasuredCard, heads: float, kv_heads: float) -> tuple[Floats, Floats, Floats]:
    """Logarithms of batches, of lengths, and (batch, length) of measured over roofline."""
    rows, shard = _attention_rows(card, "generation_attention_perf", heads, kv_heads)
    length = rows["isl"] + rows["step"]
    batches, lengths = np.unique(rows["batch_size"]), np.unique(length)
    logs = []
    for batch in batches:
        own = rows["batch_size"] == batch
        order = np.argsort(length[own], kind="stable")
        at, seconds = length[own][order], rows["latency"][own][order] * 1e-3
        sequences = np.full_like(at, batch)
        predicted = beside_keys_s(card.roofline, shard, sequences)
        predicted = predicted + card.roofline.decode_s(shard, sequences, batch * at)
        logs.append(np.interp(np.log(lengths), np.log(at), np.log(seconds / predicted)))
    return np.log(batches), np.log(lengths), np.array(logs)


@lru_cache(maxsize=16)
def all_reduces(folder: Path) -> dict[int, Line]:
    """By number of cards: bytes and seconds."""
    rows = _rows(folder, "comm", "custom_allreduce_perf", "num_gpus, message_size, latency", "backend = 'vllm_graph'")
    table = {}
    for devices in np.unique(rows["num_gpus"]):
        own = rows["num_gpus"] == devices
        sizes, first = np.unique(rows["message_size"][own], return_index=True)
        table[int(devices)] = (sizes, rows["latency"][own][first] * 1e-3)
    return table
