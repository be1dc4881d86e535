"""A worker that speaks the messages over TCP, as the real one does, and computes a token by hashing: no model, no torch.

A token depends on the prompt, the seed and the place alone, so an answer that was broken off must go on exactly as it began.
Keys and values are the one line that a prefill worker sends to the decode worker, which answers when it has it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from zlib import crc32

from thunderserve.engine.messages import (
    VERSION,
    Beat,
    Cancel,
    Emitted,
    Failed,
    Handed,
    Hello,
    Message,
    Role,
    Sampling,
    Stop,
    Submit,
    Token,
    decode,
    encode,
)


def next_token(prompt: Sequence[int], seed: int, place: int) -> int:
    return crc32(repr((tuple(prompt), seed, place)).encode()) % 1000


def whole_answer(prompt: Sequence[int], sampling: Sampling) -> list[int]:
    """What any number of workers, dying as they like, must give together."""
    answer = []
    for place in range(sampling.max_tokens):
        answer.append(next_token(prompt, sampling.seed, place))
        if answer[-1] in sampling.stop_tokens:
            break
    return answer


class PlainWorker:
    """Serves each request in a task of its own, a token every ``step_s``."""

    def __init__(
        self, replica: int, *, step_s: float = 0.002, blocks: int = 1000, max_context: int = 4096, beat_s: float = 0.05
    ) -> None:
        self.replica, self.step_s, self.beat_s = replica, step_s, beat_s
        self.blocks, self.max_context = blocks, max_context
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.submits: list[Submit] = []
        self.arrived: list[Submit] = []
        """From prefill workers."""
        self.cancels: list[int] = []
        self.roles: list[Role] = []
        self.stopped = False
        self.mute = False
        """Says nothing more, and keeps its line: it hangs."""
        self.refuse = 0
        """How many requests it will fail."""
        self.refuse_for_good = False
        self.fail_after_handing = False
        """Says Failed where it should say Handed."""
        self.hand_delay_s = 0.0
        """Between handing over and saying what became of it."""
        self.skip: int | None = None
        """A place that it forgets to tell, once."""
        self.stutters = False
        """Says every token twice."""
        self.late_s = 0.0
        """Its words travel so long."""

    async def start(self, coordinator: tuple[str, int]) -> PlainWorker:
        self._server = await asyncio.start_server(self._receive, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()[:2]
        self._reader, self._writer = await asyncio.open_connection(*coordinator)
        self._say(Hello(VERSION, self.replica, os.getpid(), host, port, self.blocks, 16, self.max_context, "none", 0.0))
        self._loops = [asyncio.create_task(self._listen()), asyncio.create_task(self._beat())]
        return self

    def die(self) -> None:
        """At once, with everything that it was doing."""
        self.mute = True
        for task in (*self.tasks.values(), *self._loops):
            task.cancel()
        self.tasks.clear()
        self._writer.transport.abort()
        self._server.close()

    def _say(self, message: Message) -> None:
        if self.mute or self._writer.is_closing():
            return
        if self.late_s:
            asyncio.get_running_loop().call_later(self.late_s, self._writer.write, encode(message))
        else:
            self._writer.write(encode(message))

    async def _beat(self) -> None:
        while True:
            self._say(self.state())
            await asyncio.sleep(self.beat_s)

    def state(self) -> Beat:
        fields: dict[str, Any] = dict.fromkeys(Beat._fields, 0)
        return Beat(**fields | {"at_s": time.time(), "running": len(self.tasks), "blocks": self.blocks})

    async def _listen(self) -> None:
        with suppress(OSError):
            while line := await self._reader.readline():
                self._hear(decode(line))
        self.stopped = True

    def _hear(self, message: Message) -> None:
        if isinstance(message, Submit):
            self.submits.append(message)
            if self.refuse:
                self.refuse -= 1
                self._say(Failed(message.id, "not today", again=not self.refuse_for_good))
            elif message.id in self.tasks:
                self._say(Failed(message.id, "it is here already", again=True))
            else:
                self._begin(message)
        elif isinstance(message, Cancel):
            self.cancels.append(message.id)
            if (task := self.tasks.pop(message.id, None)) is not None:
                task.cancel()
        elif isinstance(message, Role):
            self.roles.append(message)
        elif isinstance(message, Stop):
            self.stopped = True

    def _begin(self, submit: Submit) -> None:
        self.tasks[submit.id] = task = asyncio.create_task(self._serve(submit))
        task.add_done_callback(
            lambda done: self.tasks.pop(submit.id, None) if self.tasks.get(submit.id) is done else None
        )

    async def _serve(self, submit: Submit) -> None:
        start_s: float | None = time.time()
        sampling, place = submit.sampling, len(submit.emitted)
        for expected, told in enumerate(submit.emitted):
            assert told == next_token(submit.prompt, sampling.seed, expected), "the coordinator told another answer"
        while True:
            await asyncio.sleep(self.step_s)
            token = next_token(submit.prompt, sampling.seed, place)
            reason = "stop" if token in sampling.stop_tokens else "length" if place + 1 == sampling.max_tokens else None
            if place == self.skip:
                self.skip = None
            else:
                said = Emitted(time.time(), (Token(submit.id, place, token, reason, start_s),))
                for _ in range(2 if self.stutters else 1):
                    self._say(said)
            start_s, place = None, place + 1
            if reason is not None:
                return
            if submit.decode_at is not None:
                await self._hand_over(submit, token)
                return

    async def _hand_over(self, submit: Submit, token: int) -> None:
        start_s = time.time()
        target = submit.decode_at
        assert target is not None
        note = encode(submit._replace(emitted=(*submit.emitted, token), decode_at=None))
        try:
            reader, writer = await asyncio.open_connection(target.host, target.port)
            writer.write(note)
            confirmed = await reader.readline()
            writer.close()
        except OSError:
            confirmed = b""
        await asyncio.sleep(self.hand_delay_s)
        if not confirmed or self.fail_after_handing:
            self._say(Failed(submit.id, "keys and values: nobody took them", again=True))
            return
        self._say(Handed(submit.id, len(note), start_s, time.time()))

    async def _receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        submit = decode(await reader.readline())
        assert isinstance(submit, Submit)
        if not self.mute:
            self.arrived.append(submit)
            self._begin(submit)
            writer.write(b"confirmed\n")
        writer.close()
