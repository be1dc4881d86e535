"""What a client asks for beside its prompt: read once, the same for completions and chats."""

from __future__ import annotations

import secrets
from typing import Any, NamedTuple

from thunderserve.engine.front.fields import Fields, are_whole
from thunderserve.engine.front.refused import Refused

MOST_CHOICES = 128
MOST_STOPS = 4
DEFAULT_TOKENS = 16
"""Of a completion that names no limit, as OpenAI has it. A chat goes on to the end of the context."""

UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "logprobs": (False,), "top_logprobs": (0,), "prompt_logprobs": (), "echo": (False,), "suffix": ("",), "logit_bias": ({},),
    "best_of": (1,), "presence_penalty": (0, 0.0), "frequency_penalty": (0, 0.0), "repetition_penalty": (1, 1.0),
    "tools": ([],), "tool_choice": ("none", "auto"), "functions": ([],), "response_format": ({"type": "text"},),
    "use_beam_search": (False,), "min_p": (0, 0.0),
}  # fmt: skip
"""Fields that change the answer and are not served, with the values at which they do not: refused, since to ignore them would
answer another question."""


class Wishes(NamedTuple):
    """How to answer."""

    max_tokens: int | None
    """None: to the end of the context."""
    min_tokens: int
    temperature: float
    top_p: float
    top_k: int
    seed: int
    stops: tuple[str, ...]
    stop_tokens: tuple[int, ...]
    """Beside the model's own."""
    ignore_eos: bool
    choices: int
    stream: bool
    include_usage: bool
    token_ids: bool
    """Tokens are told beside their text."""


def read_wishes(body: Fields, default_tokens: int | None) -> Wishes:
    """Raises Refused."""
    _check_supported(body)
    limit = "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens"
    max_tokens = body.whole(limit, default_tokens, 1)
    min_tokens = body.whole("min_tokens", 0, 0) or 0
    if max_tokens is not None and min_tokens > max_tokens:
        raise body.wrong("min_tokens", f"at most {limit}, which is {max_tokens}")
    seed = body.get("seed")
    if seed is not None and not are_whole([seed]):
        raise body.wrong("seed", "an integer")
    options = body.inner("stream_options")
    return Wishes(
        max_tokens=max_tokens,
        min_tokens=min_tokens,
        temperature=body.real("temperature", 1.0, 0, 2),
        top_p=body.real("top_p", 1.0, 0, 1, open_below=True),
        top_k=max(body.whole("top_k", 0, -1) or 0, 0),
        seed=secrets.randbits(63) if seed is None else seed,
        stops=_stops(body),
        stop_tokens=_stop_tokens(body),
        ignore_eos=body.flag("ignore_eos"),
        choices=body.whole("n", 1, 1, MOST_CHOICES) or 1,
        stream=body.flag("stream"),
        include_usage=options.flag("include_usage"),
        token_ids=body.flag("return_token_ids"),
    )


def _check_supported(body: Fields) -> None:
    for name, neutral in UNSUPPORTED.items():
        value = body.get(name)
        if value is None or any(type(value) is type(other) and value == other for other in neutral):
            continue
        raise Refused(f"'{name}' is not supported; leave it out", name, "unsupported_parameter")


def _stops(body: Fields) -> tuple[str, ...]:
    value = body.get("stop")
    given = [] if value is None else [value] if isinstance(value, str) else value
    fits = isinstance(given, list) and len(given) <= MOST_STOPS and all(isinstance(one, str) and one for one in given)
    if not fits:
        raise body.wrong("stop", f"a string or a list of up to {MOST_STOPS} strings, none of them empty")
    return tuple(given)


def _stop_tokens(body: Fields) -> tuple[int, ...]:
    value = body.get("stop_token_ids")
    if value is not None and not (isinstance(value, list) and are_whole(value)):
        raise body.wrong("stop_token_ids", "a list of token ids")
    return tuple(value or ())
