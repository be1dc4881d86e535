"""Start one attendant and, with it, its vLLM instance."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys

import aiohttp

from thunderserve.engine.vllm.attendant import Attendant
from thunderserve.engine.vllm.options import AttendantOptions


def main() -> None:
    """Until the coordinator says stop or goes, or vLLM ends."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    options = AttendantOptions.from_json(sys.argv[1])
    if options.cores:
        os.sched_setaffinity(0, options.cores)
    asyncio.run(attend(options))


async def attend(options: AttendantOptions) -> None:
    """One attendant to its end; SIGTERM ends it in order."""
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("an attendant runs in a task")
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    limits = aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=None)
    async with aiohttp.ClientSession(timeout=limits, connector=aiohttp.TCPConnector(limit=0)) as session:
        try:
            await Attendant(options, session).run()
        except asyncio.CancelledError:
            logging.getLogger(__name__).info("ended")


if __name__ == "__main__":
    main()
