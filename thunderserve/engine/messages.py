"""What coordinator and workers say to each other: one JSON object a line, over one TCP connection a worker.

The worker connects and says ``Hello``; from then on both speak when they have something to say. Small things only: prompts,
tokens, states. Keys and values travel from worker to worker, see ``thunderserve.engine.transfer``.

Every attempt at a request has a number of its own, so that what an earlier one still says is told apart. A colocated worker
gets it with ``Submit`` and says ``Emitted`` until a token has a reason to be the last. On the way of two phases the prefill
worker gets it with ``decode_at``, says the first token, hands the keys and values over (``Handed``), and the decode worker,
which got the ``Submit`` as the note of the transfer, says the rest.
"""

from __future__ import annotations

import json
from typing import Any, Literal, NamedTuple

VERSION = 1
Reason = Literal["stop", "length"]
"""Why a token is the last, as OpenAI names it."""


class Sampling(NamedTuple):
    """How the next token is chosen, and when to stop."""

    max_tokens: int
    temperature: float = 0.0
    """0: the most likely token."""
    top_p: float = 1.0
    top_k: int = 0
    """0: all."""
    seed: int = 0
    """Of this request: the same seed gives the same tokens, whatever else is in the batch."""
    stop_tokens: tuple[int, ...] = ()
    """Each ends the request and is emitted as its last token (reason ``stop``)."""


class Target(NamedTuple):
    """Where keys and values go after the prefill, and how."""

    replica: int
    host: str
    port: int
    codec: str = "raw"
    group_size: int = 0
    """0: the codec's own."""
    bytes_per_s: float = 0.0
    """A slower link is imitated; 0: the network as it is."""
    latency_s: float = 0.0


class Submit(NamedTuple):
    """To a worker: serve this."""

    id: int
    prompt: tuple[int, ...]
    sampling: Sampling
    emitted: tuple[int, ...] = ()
    """Tokens that the client has already: they count towards ``max_tokens``, are computed as part of the prompt, and are not said
    again. A worker died, and this is the second attempt."""
    decode_at: Target | None = None


class Cancel(NamedTuple):
    """To a worker: nobody wants it any more. Said of an unknown request, it is nothing."""

    id: int


class Role(NamedTuple):
    """To a worker: from now on serve this phase, with these limits; weights stay. Requests that it has run to their end."""

    phase: Literal["prefill", "decode", "both"]
    policy: Literal["chunked", "prefill_first", "saturation", "continuous"]
    max_sequences: int
    max_batched_tokens: int


class Stop(NamedTuple):
    """To a worker: end. What it serves is not finished."""


class Hello(NamedTuple):
    """From a worker, first: it has its weights and is ready."""

    version: int
    replica: int
    pid: int
    host: str
    """Where it receives keys and values."""
    port: int
    blocks: int
    block_tokens: int
    max_context: int
    device: str
    load_s: float
    """Seconds from its start until now."""


class Token(NamedTuple):
    """One token of one request. ``place`` counts from 0 over the whole answer, so that nothing is told twice."""

    id: int
    place: int
    token: int
    reason: Reason | None = None
    prefill_start_s: float | None = None
    """With the first token of an attempt: seconds since the epoch when its prefill was first scheduled."""
    preemptions: int = 0


class Emitted(NamedTuple):
    """From a worker: what one step gave; ``at_s`` is the end of the step in seconds since the epoch."""

    at_s: float
    tokens: tuple[Token, ...]


class Handed(NamedTuple):
    """From a prefill worker: the decode worker has the keys and values (seconds since the epoch)."""

    id: int
    bytes: int
    start_s: float
    end_s: float


class Failed(NamedTuple):
    """From a worker: it will not finish this request. ``again``: another worker may; otherwise nobody can (it is too long)."""

    id: int
    reason: str
    again: bool


class Beat(NamedTuple):
    """From a worker, twice a second and after a long step: it lives, and this is how it is."""

    at_s: float
    waiting: int
    running: int
    blocks_used: int
    blocks: int
    steps: int
    prompt_tokens: int
    """Computed since the start, those recomputed and not those reused."""
    output_tokens: int
    reused_tokens: int
    """Of prompts, found in the cache of blocks."""
    preemptions: int
    busy_s: float
    sent_bytes: int
    received_bytes: int
    resident_bytes: int
    """Memory of the process."""


Message = Submit | Cancel | Role | Stop | Hello | Emitted | Handed | Failed | Beat
KINDS: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (Submit, Cancel, Role, Stop, Hello, Emitted, Handed, Failed, Beat)
}


class MessageError(ValueError):
    """A line is not a message."""


def encode(message: Message) -> bytes:
    """One line, its end included."""
    return json.dumps([type(message).__name__, *message], separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Message:
    """The message of one line.

    Raises:
        MessageError: it is none, or one of another version.
    """
    try:
        name, *values = json.loads(line)
        kind = KINDS[name]
        found = kind(*values)
    except (ValueError, KeyError, TypeError) as error:
        raise MessageError(f"not a message: {line[:80]!r}") from error
    if isinstance(found, Submit):
        target = None if found.decode_at is None else Target(*found.decode_at)
        limits = Sampling(*found.sampling)
        limits = limits._replace(stop_tokens=tuple(limits.stop_tokens))
        return found._replace(
            prompt=tuple(found.prompt), sampling=limits, emitted=tuple(found.emitted), decode_at=target
        )
    if isinstance(found, Emitted):
        return found._replace(tokens=tuple(Token(*token) for token in found.tokens))
    return found  # type: ignore[no-any-return]
