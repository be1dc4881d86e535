"""What a worker does all day: hear, let in, schedule, execute, complete, tell."""

from __future__ import annotations

import os
import threading
import time

from thunderserve.engine.messages import Beat, Cancel, Emitted, Failed, Handed, Role, Stop, Submit
from thunderserve.engine.replica.computer import Computer
from thunderserve.engine.replica.core import FullError, Replica, TooLongError
from thunderserve.engine.replica.memory import KvMemory
from thunderserve.engine.replica.step import Step
from thunderserve.engine.steplog import StepLog, Stepped
from thunderserve.engine.worker.arrivals import Arrivals
from thunderserve.engine.worker.departures import Departures
from thunderserve.engine.worker.line import Line

BEAT_S = 0.5
NAP_S = 0.5
"""An idle worker looks around so often though nobody woke it."""


class Worker:
    """One replica with its connections. ``run`` returns when it was stopped or the coordinator has gone.

    Args:
        model: loaded.
        memory: of its keys and values.
        replica: the books.
        line: to the coordinator.
        departures, arrivals: keys and values from and to other workers.
        wake: set whenever something has happened outside.
        log: told of every step, where somebody wants to know.
    """

    def __init__(
        self, model: Computer, memory: KvMemory, replica: Replica, line: Line, departures: Departures, arrivals: Arrivals,
        wake: threading.Event, log: StepLog | None = None,
    ) -> None:  # fmt: skip
        self._model, self._memory, self._replica, self._line = model, memory, replica, line
        self._departures, self._arrivals, self._wake = departures, arrivals, wake
        self._log = log
        self._stopped = False
        self._busy_s = 0.0

    def run(self) -> None:
        """Serve until the end."""
        ended = threading.Event()
        beats = threading.Thread(target=self._beat_until, args=(ended,), name="beat", daemon=True)
        beats.start()
        try:
            while not (self._stopped or self._line.ended):
                if not self.turn():
                    self._wake.wait(NAP_S)
                    self._wake.clear()
        finally:
            ended.set()
            beats.join()

    def turn(self) -> bool:
        """Take in what has happened and run one step; false when there was nothing to run."""
        self._hear()
        self._arrivals.poll()
        self._see_off()
        step = self._replica.schedule(time.time())
        if step is None:
            if not len(self._replica):
                self._replica.check()
            return False
        self._run(step)
        return True

    def _run(self, step: Step) -> None:
        start_s = time.monotonic()
        self._departures.begin(step)
        chosen = self._model.execute(step, self._memory, self._departures.watcher(step))
        self._departures.computed(step)
        now_s = time.time()
        done = self._replica.complete(chosen, now_s)
        took_s = time.monotonic() - start_s
        self._busy_s += took_s
        if self._log is not None:
            self._log.note(Stepped(now_s, took_s, step.shape))
        if done.tokens:
            self._line.say(Emitted(now_s, done.tokens))
        for token in done.tokens:
            if token.reason is not None:
                self._departures.drop(token.id, "it ended with its first token")
        for sequence in done.leaving:
            self._departures.close(sequence, sequence.tokens[-1])

    def _hear(self) -> None:
        for message in self._line.hear():
            if isinstance(message, Submit):
                try:
                    self._know(message)
                    self._replica.submit(message)
                except (TooLongError, FullError, KeyError) as error:
                    self._line.say(Failed(message.id, str(error), again=not isinstance(error, TooLongError)))
            elif isinstance(message, Cancel):
                self._replica.end(message.id, time.time())
                self._departures.drop(message.id, "cancelled")
                self._arrivals.cancel(message.id)
            elif isinstance(message, Role):
                self._replica.play(message)
            elif isinstance(message, Stop):
                self._stopped = True

    def _know(self, submit: Submit) -> None:
        """Raise TooLongError for tokens that the model does not have: they would end the process in the middle of a step."""
        tokens = (*submit.prompt, *submit.emitted)
        if tokens and not 0 <= min(tokens) <= max(tokens) < self._model.vocabulary:
            raise TooLongError(
                f"tokens are from 0 to {self._model.vocabulary - 1}; one is {max(tokens)} or {min(tokens)}"
            )

    def _see_off(self) -> None:
        """What has left, or will not."""
        epoch_s = time.time() - time.monotonic()
        for ended in self._departures.poll():
            sequence = ended.sequence
            if not self._replica.holds(sequence):
                continue  # cancelled, or ended with its first token
            if sequence.leaving:
                self._replica.handed(sequence)
            else:
                self._replica.end(sequence.id, time.time())
            if ended.reason:
                self._line.say(Failed(sequence.id, f"keys and values: {ended.reason}", again=True))
            else:
                self._line.say(Handed(sequence.id, ended.bytes, epoch_s + ended.start_s, epoch_s + ended.end_s))

    def _beat_until(self, ended: threading.Event) -> None:
        """A step may take longer than the coordinator's patience; this thread says that the process lives."""
        while not ended.wait(BEAT_S):
            self._line.say(self._state())

    def _state(self) -> Beat:
        replica = self._replica
        return Beat(
            at_s=time.time(), waiting=replica.waiting, running=replica.running,
            blocks_used=replica.blocks.count - replica.blocks.free, blocks=replica.blocks.count, steps=replica.steps,
            prompt_tokens=replica.prompt_tokens, output_tokens=replica.output_tokens, reused_tokens=replica.reused_tokens,
            preemptions=replica.preemptions, busy_s=self._busy_s, sent_bytes=self._departures.sent_bytes,
            received_bytes=self._arrivals.received_bytes, resident_bytes=resident_bytes(),
        )  # fmt: skip


def resident_bytes() -> int:
    """Memory of this process; 0 where /proc does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
