"""``harness bench codec``: speed of the KV codecs against a memory copy, bits a value, and their error on a real model.

Speed is in GB of 16-bit keys and values a CPU second of one core, headers and checksums included, the best of five; the copy is
measured in the same run over the same layers, which together are larger than the caches. Errors need ``--model``, a folder that
transformers can load.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thunderserve.cost.codec_table import CodecTime, write_codec_times

if TYPE_CHECKING:
    from thunderserve.kv.study.capture import Captured
    from thunderserve.kv.study.errors import Errors
    from thunderserve.kv.study.speed import Speed

SHAPES = {"llama-30b": (52, 128), "llama-3-8b": (8, 128), "smollm2-135m": (3, 64)}
"""KV heads and their width."""
AIM = 0.25
"""Share of the copy that int4 is to reach in both directions."""


def main(arguments: list[str]) -> int:
    """Print both tables; save the speeds with ``--write``."""
    options = _options(arguments)
    rows = []
    for shape in options.shapes:
        found = list(_speeds(shape, options))
        _show_speeds(shape, options, found)
        rows += [
            CodecTime(name, direction, shape, rate, speed.copy_bytes_per_s, _machine())
            for name, speed in found
            for direction, rate in (("encode", speed.encode_bytes_per_s), ("decode", speed.decode_bytes_per_s))
        ]
    if options.write:
        write_codec_times(options.write, rows)
        sys.stdout.write(f"codec speeds written to {options.write}\n")
    _real(options)
    return 0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="harness bench codec", description=__doc__)
    known = _runnable()
    parser.add_argument("--codecs", nargs="+", choices=known, default=known, metavar="NAME", help=", ".join(known))
    parser.add_argument("--shapes", nargs="*", choices=list(SHAPES), default=list(SHAPES), metavar="MODEL")
    parser.add_argument("--tokens", type=int, default=1024, help="tokens a layer (1024)")
    parser.add_argument("--megabytes", type=int, default=128, help="16-bit values that one pass goes over (128)")
    parser.add_argument(
        "--heads-first", action="store_true", help="heads before tokens in memory, as transformers has it"
    )
    parser.add_argument("--repeats", type=int, default=5, help="runs, of which the fastest counts (5)")
    parser.add_argument("--write", type=Path, help="save the speeds as CSV, for the cost model")
    parser.add_argument("--model", type=Path, help="folder of a causal LM, for errors on its real keys and values")
    parser.add_argument("--text", type=Path, help="what that model reads (the project's own documentation)")
    return parser.parse_args(arguments)


def _runnable() -> list[str]:
    """Codecs whose packages are installed."""
    from thunderserve.kv.wire.catalogue import load, names

    found = []
    for name in names():
        try:
            load(name)
        except ImportError as error:
            sys.stderr.write(f"{name} is left out: {error}\n")
        else:
            found.append(name)
    return found


def _speeds(shape: str, options: argparse.Namespace) -> Iterator[tuple[str, Speed]]:
    from thunderserve.kv.study.speed import heads_first, made_up, measure

    layers = made_up(options.tokens, *SHAPES[shape], total_bytes=options.megabytes << 20)
    if options.heads_first:
        layers = heads_first(layers)
    for name in options.codecs:
        yield name, measure(name, layers, options.repeats)


def _show_speeds(shape: str, options: argparse.Namespace, found: list[tuple[str, Speed]]) -> None:
    heads, dim = SHAPES[shape]
    copy = max(speed.copy_bytes_per_s for _, speed in found)
    title = f"{shape}: {options.tokens} tokens of {heads} x {dim}; one core of {_machine()}; copy {copy / 1e9:.1f} GB/s"
    rows = [
        (
            name,
            f"{speed.bits_per_value:.2f}",
            f"{speed.encode_bytes_per_s / 1e9:.2f}",
            f"{speed.encode_bytes_per_s / speed.copy_bytes_per_s:.0%}",
            f"{speed.decode_bytes_per_s / 1e9:.2f}",
            f"{speed.decode_bytes_per_s / speed.copy_bytes_per_s:.0%}",
        )
        for name, speed in found
    ]
    _print(title, ("codec", "bits/value", "encode GB/s", "of copy", "decode GB/s", "of copy"), rows)
    for name, speed in found:
        slower = min(speed.encode_bytes_per_s, speed.decode_bytes_per_s) / speed.copy_bytes_per_s
        if name == "int4":
            sys.stdout.write(
                f"int4 {'keeps' if slower >= AIM else 'misses'} the aim: {slower:.0%} of the copy, {AIM:.0%} wanted\n"
            )


def _real(options: argparse.Namespace) -> None:
    """Errors on a real model, or why there are none."""
    text = options.text or Path(__file__).resolve().parents[2] / "docs" / "architecture.md"
    absent = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    reason = ""
    if options.model is None:
        reason = "no --model was given"
    elif not options.model.is_dir():
        reason = f"there is no folder {options.model}"
    elif absent:
        reason = f"{' and '.join(absent)} must be installed (the extra 'eval')"
    elif not text.is_file():
        reason = f"there is no text {text}; give one with --text"
    if reason:
        sys.stdout.write(f"errors on a real model are left out: {reason}\n")
        return
    from thunderserve.kv.study.capture import capture

    layers = capture(options.model, text.read_text(encoding="utf-8"), options.tokens)
    table = []
    for name in options.codecs:
        bits, found = _errors(name, layers)
        table.append(
            (name, f"{bits:.2f}", *(f"{value:.2e}" for value in found[:2]), *(f"{value:.4f}" for value in found[2:]))
        )
    title = f"{options.model.name}: {options.tokens} real tokens in float16, mean over {len(layers)} layers"
    columns = ("codec", "bits/value", "key MSE", "value MSE", "key error", "value error", "attention output error")
    _print(title, columns, table)
    sys.stdout.write("errors are |a - b| / |a| in the Euclidean norm; bits include the tail and all padding\n")


def _errors(name: str, layers: list[Captured]) -> tuple[float, Errors]:
    """Bits a value, and the mean over the layers of every error."""
    from thunderserve.kv.study.errors import Errors, errors
    from thunderserve.kv.wire.catalogue import load
    from thunderserve.kv.wire.header import HEADER_BYTES
    from thunderserve.kv.wire.packet import Decoder, Encoder

    encoder, decoder, bits, values, found = Encoder(load(name)), Decoder(), 0, 0, []
    for layer in layers:
        k, v = layer.k.astype(np.float16), layer.v.astype(np.float16)
        packet = encoder.encode(k, v)
        decoded = decoder.decode(packet)
        bits, values = bits + 8 * (len(packet) - HEADER_BYTES), values + k.size + v.size
        true = (k.astype(np.float32), v.astype(np.float32))
        found.append(errors(layer.q, true, (decoded.k.astype(np.float32), decoded.v.astype(np.float32))))
    return bits / values, Errors(*np.mean(found, axis=0).tolist())


def _print(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    sys.stdout.write(title + "\n")
    drawn = Table()
    for column in columns:
        drawn.add_column(column, justify="left" if column == columns[0] else "right")
    for row in rows:
        drawn.add_row(*row)
    Console(width=120).print(drawn)


def _machine() -> str:
    """The processor, as Linux names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
