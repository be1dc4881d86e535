"""One rank other than 0: ``python -m thunderserve.engine.ranks '<WorkerOptions as JSON>' NUMBER PIPE``, started by rank 0."""

from __future__ import annotations

import logging
import signal
import sys
from contextlib import suppress
from multiprocessing.connection import Connection

from thunderserve.engine.options import WorkerOptions
from thunderserve.engine.process import end_with_parent, settle


def main() -> None:
    """Follow rank 0 until it hangs up."""
    end_with_parent(signal.SIGKILL)  # it may stand in the middle of a step, where nothing else reaches it
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    options, number = WorkerOptions.from_json(sys.argv[1]), int(sys.argv[2])
    rank = options.ranks[number]
    settle(rank.cores, rank.threads)
    follow(options, number, Connection(int(sys.argv[3])))


def follow(options: WorkerOptions, number: int, pipe: Connection) -> None:
    """Carry out orders; torch is imported here, after the threads have been counted."""
    import torch

    from thunderserve.engine.ranks.follower import Follower

    torch.set_num_threads(options.ranks[number].threads)
    with suppress(EOFError):  # rank 0 has hung up, or died
        Follower(options, number, pipe).run()


if __name__ == "__main__":
    main()
