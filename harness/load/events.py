"""Server-sent events, cut out of bytes as they come."""

from __future__ import annotations

import json
from typing import Any, NamedTuple


class Malformed(Exception):  # noqa: N818  a finding about the server
    """What came is not a stream of OpenAI's chunks."""


class Event(NamedTuple):
    """One event of a stream of chunks."""

    done: bool
    """``[DONE]``; the rest is empty."""
    tokens: int = 0
    """That it brings."""
    finished: bool = False
    """It says why an answer ended."""
    usage: tuple[int, int] | None = None
    """Prompt and output tokens, as the server counts them."""
    error: str = ""


MOST_BYTES = 8 << 20
"""Of one event; more is no event."""


class Cutter:
    """Takes bytes in any pieces."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Event]:
        """The events that are complete now. Raises Malformed."""
        *lines, self._rest = (self._rest + data).replace(b"\r\n", b"\n").split(b"\n")
        if len(self._rest) > MOST_BYTES:
            raise Malformed(f"an event of more than {MOST_BYTES} bytes")
        return [read(line[5:].strip()) for line in lines if line.startswith(b"data:")]


def read(data: bytes) -> Event:
    """One event's data. Raises Malformed, in words."""
    if data == b"[DONE]":
        return Event(True)
    try:
        body = json.loads(data)
        if body.get("error"):
            error = body["error"]
            return Event(False, error=str(error.get("message", error) if isinstance(error, dict) else error))
        found = [_choice(choice) for choice in body.get("choices") or ()]
        used = body.get("usage")
        usage = None if used is None else (int(used["prompt_tokens"]), int(used["completion_tokens"]))
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise Malformed(f"a chunk that cannot be read: {data[:80]!r}") from error
    return Event(False, sum(tokens for tokens, _ in found), any(ended for _, ended in found), usage)


def _choice(choice: dict[str, Any]) -> tuple[int, bool]:
    """Tokens, and whether it ended. Without token ids, a chunk is a token, but for an empty one that only says the end."""
    ended = choice.get("finish_reason") is not None
    ids = choice.get("token_ids")
    if ids is not None:
        return len(ids), ended
    return int(bool(choice.get("text")) or not ended), ended
