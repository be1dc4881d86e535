"""Start one worker: read what it is to be, load its weights, warm up, say hello, serve."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from thunderserve.engine.heap import give_back
from thunderserve.engine.messages import VERSION, Hello
from thunderserve.engine.options import WorkerOptions, longest_step
from thunderserve.engine.process import settle
from thunderserve.engine.ranks.process import Process, start_ranks

if TYPE_CHECKING:
    from thunderserve.engine.replica.computer import Computer

log = logging.getLogger(__name__)
KERNEL_TOKENS = 20
RANK_LOST = 4
"""Exit code."""


def main() -> None:
    """Serve until the coordinator says stop or goes."""
    start_s = time.monotonic()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    options = WorkerOptions.from_json(sys.argv[1])
    settle(options.cores, options.threads)
    serve(options, start_s)


def serve(options: WorkerOptions, start_s: float) -> None:
    """See ``main``; torch is imported here, after the threads have been counted and the other ranks started."""
    others = start_ranks(options, give_up)
    import torch

    from thunderserve.engine.replica.core import Replica
    from thunderserve.engine.steplog import StepLog
    from thunderserve.engine.worker.arrivals import Arrivals
    from thunderserve.engine.worker.departures import Departures
    from thunderserve.engine.worker.line import Line
    from thunderserve.engine.worker.loop import Worker

    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    model = computer_of(options, others)
    wire_dtype = getattr(torch, options.wire_dtype or options.dtype)
    warm_up(model, options, wire_dtype)
    give_back()
    model.prepare(longest_step(options.role))
    blocks = options.blocks or max(1, options.kv_bytes // (model.kv_bytes_per_token * options.block_tokens))
    memory = model.memory(blocks, options.block_tokens)
    context = min(options.max_context or model.max_context, model.max_context)
    replica = Replica(
        options.role,
        blocks=blocks,
        block_tokens=options.block_tokens,
        max_context=context,
        reuse=options.reuse_prefixes,
    )
    wake = threading.Event()
    departures = Departures(
        options.replica, model.layers, memory, wire_dtype, wake.set, late=options.transfer == "after_prefill"
    )
    arrivals = Arrivals(options.host, replica, memory, model.layers, wake.set)
    line = Line(options.coordinator, wake.set)
    host, port = arrivals.address
    line.say(
        Hello(
            VERSION,
            options.replica,
            os.getpid(),
            host,
            port,
            blocks,
            options.block_tokens,
            context,
            options.device,
            time.monotonic() - start_s,
        )
    )
    log = StepLog(Path(options.steps)) if options.steps else None
    try:
        Worker(model, memory, replica, line, departures, arrivals, wake, log).run()
    finally:
        if log is not None:
            log.close()
        departures.stop()
        arrivals.stop()
        line.close()
        model.stop()


def computer_of(options: WorkerOptions, others: list[Process]) -> Computer:
    """A model on one device, or this process as rank 0 of several."""
    if options.ranks:
        from thunderserve.engine.ranks.team import Team

        return Team(options, others)
    from thunderserve.engine.replica.model import Model

    return Model(options.model, dtype=options.dtype, device=options.device, kind=options.attention)


def give_up(words: str) -> None:
    """End this process at once: it may stand in the middle of a step, waiting for a rank that is no more."""
    log.error("%s: the replica ends", words)
    os._exit(RANK_LOST)


def warm_up(model: Computer, options: WorkerOptions, wire_dtype: object) -> None:
    """Machine code and memory before the first request: a prompt, a decode step, a packet."""
    from thunderserve.engine.messages import Role, Sampling, Submit
    from thunderserve.engine.replica.core import Replica
    from thunderserve.engine.transfer.warm import warm_up as warm_up_codecs
    from thunderserve.kv.wire.arrays import FORMATS

    replica = Replica(
        Role("both", "chunked", 2, 64), blocks=8, block_tokens=options.block_tokens, max_context=64, most=4
    )
    memory = model.memory(8, options.block_tokens)
    replica.submit(Submit(0, tuple(range(1, 1 + KERNEL_TOKENS)), Sampling(3)))
    while (step := replica.schedule(0.0)) is not None:
        replica.complete(model.execute(step, memory), 0.0)
    warm_up_codecs(["raw", "int4"], FORMATS[str(wire_dtype).removeprefix("torch.")])


if __name__ == "__main__":
    main()
