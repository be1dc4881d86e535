"""``harness bench transfer``: KV over TCP between two processes of this machine, against a plain socket copy and the simulator.

First as fast as it goes: what encoding, sending and decoding take alone, and what the transfer takes in which they overlap. Then
over links throttled by the sender: raw and int4 beside ``alpha + bytes / beta``, and beside the simulator's transfer of the same
model over the same link (with this machine's codec speeds; it adds encoding, wire and decoding up, as the paper's formula does).
Layers have the shape of LLaMA-30B; there are fewer of them. Every figure is of the fastest repeat, as the
machine may have other work.
"""

from __future__ import annotations

import argparse
import multiprocessing
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from harness.bench._transfer_far import LENGTH, serve

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from thunderserve.engine.transfer.link import Link
    from thunderserve.engine.transfer.sender import Sender
    from thunderserve.engine.transfer.transport import Address

HEADS, DIM = 52, 128
CODECS = ("raw", "int4")
LOST_S = 120.0


class Took(NamedTuple):
    """One transfer: from the first layer at hand to the confirmation."""

    seconds: float
    cpu_s: float
    """Of the sending process."""
    wire_bytes: int


class Alone(NamedTuple):
    """Seconds of each part by itself, for all layers."""

    encode_s: float
    wire_s: float
    decode_s: float


class Bench(NamedTuple):
    """What every measurement needs."""

    sender: Sender
    far: Address
    plain: socket.socket
    layers: list[NDArray[np.float16]]
    repeats: int

    @property
    def kv_bytes(self) -> int:
        """16-bit keys and values of all layers."""
        return sum(2 * x.nbytes for x in self.layers)


def main(arguments: list[str]) -> int:
    """Print both tables."""
    options = _options(arguments)
    with _bench(options) as bench:
        copy_s = _copy_s(bench, bench.kv_bytes)
        title = f"{options.layers} layers of {options.tokens} tokens of {HEADS} x {DIM}: {bench.kv_bytes / 1e6:.0f} MB"
        sys.stdout.write(f"{title}; plain socket copy {bench.kv_bytes / copy_s / 1e9:.2f} GB/s\n")
        alone = {codec: _alone(bench, codec) for codec in CODECS}
        _show_loopback(bench, alone, copy_s)
        _show_throttled(bench, alone, options)
    return 0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="harness bench transfer", description=__doc__)
    parser.add_argument("--layers", type=int, default=6, help="of LLaMA-30B's 60 (6)")
    parser.add_argument("--tokens", type=int, default=1024, help="of the prompt (1024)")
    parser.add_argument("--gbits", type=float, nargs="*", default=[1, 5, 10, 40], help="throttles (1 5 10 40)")
    parser.add_argument("--latency-ms", type=float, default=1.0, help="of the throttled links (1)")
    parser.add_argument("--repeats", type=int, default=5, help="of which the fastest counts (5)")
    return parser.parse_args(arguments)


@contextmanager
def _bench(options: argparse.Namespace) -> Iterator[Bench]:
    """Both processes, connected."""
    from thunderserve.engine.transfer.sender import Sender
    from thunderserve.kv.study.speed import made_up

    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()
    process = context.Process(target=serve, args=(far,), daemon=True)
    process.start()
    receiver, sink = near.recv()
    layers = made_up(options.tokens, HEADS, DIM, options.layers * options.tokens * HEADS * DIM * 2)[: options.layers]
    sender = Sender()
    with socket.create_connection(sink) as plain:
        yield Bench(sender, receiver, plain, layers, options.repeats)
    sender.close()
    near.send("end")
    process.join()


def _copy_s(bench: Bench, size: int) -> float:
    """Seconds in which so many bytes cross a plain socket, the answer included."""
    data = memoryview(bytes(size))

    def once() -> float:
        start_s = time.monotonic()
        bench.plain.sendall(LENGTH.pack(size))
        bench.plain.sendall(data)
        bench.plain.recv(1)
        return time.monotonic() - start_s

    return min([once() for _ in range(bench.repeats + 1)][1:])


def _alone(bench: Bench, codec: str) -> Alone:
    """Every part by itself, in this process."""
    from thunderserve.kv.wire.catalogue import load
    from thunderserve.kv.wire.packet import Decoder, Encoder

    encoder, decoder, encode, decode, size = Encoder(load(codec)), Decoder(), [], [], 0
    for _ in range(bench.repeats + 1):
        encode_s, decode_s, size = 0.0, 0.0, 0
        for x in bench.layers:
            start_s = time.monotonic()
            packet = encoder.encode(x, x)
            middle_s = time.monotonic()
            decoder.decode(packet)
            encode_s, decode_s = encode_s + middle_s - start_s, decode_s + time.monotonic() - middle_s
            size += len(packet)
        encode.append(encode_s)
        decode.append(decode_s)
    return Alone(min(encode[1:]), _copy_s(bench, size), min(decode[1:]))


def _took(bench: Bench, codec: str, link: Link | None) -> Took:
    """The fastest transfer; the first warms up."""
    return min([_once(bench, number, codec, link) for number in range(bench.repeats + 1)][1:])


def _once(bench: Bench, number: int, codec: str, link: Link | None) -> Took:
    """One transfer of layers that are all at hand, over a connection that stands."""
    from thunderserve.engine.transfer.events import Confirmed

    count, tokens = len(bench.layers), len(bench.layers[0])
    out = bench.sender.start(number, bench.far, layers=count, tokens=tokens, codec=codec, link=link)
    limit_s = time.monotonic() + LOST_S
    while not out.granted and time.monotonic() < limit_s:
        time.sleep(0.001)
    start_s, cpu_s = time.monotonic(), time.process_time()
    for layer, x in enumerate(bench.layers):
        out.put(layer, 0, x, x)
    out.close()
    end = bench.sender.events.get(LOST_S)
    if not isinstance(end, Confirmed):
        raise RuntimeError(f"the transfer did not arrive: {end}")
    return Took(end.end_s - start_s, time.process_time() - cpu_s, end.bytes)


def _show_loopback(bench: Bench, alone: dict[str, Alone], copy_s: float) -> None:
    rows = []
    for codec in CODECS:
        took, parts = _took(bench, codec, None), alone[codec]
        rows.append(
            (
                codec,
                f"{bench.kv_bytes / took.seconds / 1e9:.2f}",
                f"{copy_s / took.seconds:.0%}",
                *(f"{1e3 * part:.1f}" for part in (*parts, sum(parts), took.seconds)),
                f"{sum(parts) / took.seconds:.2f}",
                f"{took.cpu_s / (bench.kv_bytes / 1e9):.2f}",
            )
        )
    columns = ("codec", "KV GB/s", "of copy", "encode ms", "wire ms", "decode ms", "sum", "took", "overlap", "CPU s/GB")
    _print("not throttled", columns, rows)


def _show_throttled(bench: Bench, alone: dict[str, Alone], options: argparse.Namespace) -> None:
    from thunderserve.engine.transfer.link import Link

    rows = []
    for gbits in options.gbits:
        link = Link(gbits * 1e9 / 8, options.latency_ms / 1e3)
        took = {codec: _took(bench, codec, link) for codec in CODECS}
        closed = {codec: link.latency_s + took[codec].wire_bytes / (gbits * 1e9 / 8) for codec in CODECS}
        simulated = {codec: _simulated_s(bench, codec, link, alone[codec]) for codec in CODECS}
        seconds = {codec: took[codec].seconds for codec in CODECS}
        rows.append(
            (
                f"{gbits:g}",
                *(f"{1e3 * by[codec]:.1f}" for codec in CODECS for by in (seconds, closed, simulated)),
                *(f"{by['raw'] / by['int4']:.2f}" for by in (seconds, closed, simulated)),
            )
        )
    per = [f"{codec} {what}" for codec in CODECS for what in ("ms", "closed", "simulated")]
    columns = ("Gbit/s", *per, "int4 is faster by", "closed", "simulated")
    _print(f"throttled, {options.latency_ms:g} ms of latency", columns, rows)


def _simulated_s(bench: Bench, codec: str, link: Link, alone: Alone) -> float:
    """What the simulator takes for the same layers between two cards that encode and decode as fast as this machine."""
    from thunderserve.cost.codec import CodecSpeed
    from thunderserve.cost.network import kv_transfer
    from thunderserve.spec import cluster, load, plan
    from thunderserve.spec.kv import CODECS as NOUNS

    count, tokens = len(bench.layers), len(bench.layers[0])
    model = load.load_model("llama-30b").model_copy(update={"num_layers": count})
    gpu = load.load_gpu("a40")
    path = cluster.Link(latency_s=link.latency_s, bytes_per_s=link.bytes_per_s or 1e15)
    both = cluster.Cluster(
        name="two",
        gpus={"a40": gpu},
        devices=tuple(cluster.Device(id=i, gpu="a40", node=node) for i, node in enumerate("ab")),
        inside=dict.fromkeys("ab", path),
        between=tuple(cluster.NodePair(source=a, target=b, link=path) for a, b in ("ab", "ba")),
    )
    ends = [
        plan.Replica(
            stages=(plan.Stage(devices=(i,), num_layers=count),),
            phase=phase,
            batching=plan.Batching(policy="chunked"),
        )
        for i, phase in enumerate((plan.Phase.PREFILL, plan.Phase.DECODE))
    ]
    rate = gpu.memory_bytes_per_s
    speed = CodecSpeed(bench.kv_bytes / alone.encode_s / rate, bench.kv_bytes / alone.decode_s / rate)
    return kv_transfer(model, ends[0], ends[1], both, NOUNS[codec], speed).seconds(tokens)


def _print(title: str, columns: Sequence[str], rows: Sequence[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    sys.stdout.write(title + "\n")
    drawn = Table()
    for column in columns:
        drawn.add_column(column, justify="right")
    for row in rows:
        drawn.add_row(*row)
    Console(width=130).print(drawn)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
