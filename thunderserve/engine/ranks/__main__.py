"""Start one rank beyond the first: meet the others, then compute what the first says. It ends when that one does."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress

from thunderserve.engine.ranks.layout import RankOptions

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Until the first rank says that it is over, or is gone."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    options = RankOptions.from_json(sys.argv[1])
    if options.cores:
        os.sched_setaffinity(0, options.cores)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)  # before torch is imported
    serve(options)


def serve(options: RankOptions) -> None:
    """See ``main``."""
    import torch

    from thunderserve.engine.ranks.part import NewMemory, Rank, hear

    torch.set_num_threads(options.threads)
    rank = Rank(options.rank, options.layout, options.model, options.dtype, options.device, options.attention)
    rank.meet(options.port)
    while (message := hear()) is not None:
        if isinstance(message, NewMemory):
            rank.keep(message)
        else:
            rank.compute(message)


if __name__ == "__main__":
    main()
