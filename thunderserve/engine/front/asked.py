"""One HTTP request, read and checked against the model: what is to be generated, and how it is to be told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from thunderserve.engine.front import prompts
from thunderserve.engine.front.contract import Engine
from thunderserve.engine.front.fields import Fields
from thunderserve.engine.front.prompts import Prompt
from thunderserve.engine.front.refused import Refused
from thunderserve.engine.front.wishes import DEFAULT_TOKENS, Wishes, read_wishes
from thunderserve.engine.front.words import Words
from thunderserve.engine.messages import Sampling

Kind = Literal["completion", "chat"]


class Asked(NamedTuple):
    """What a client asked for."""

    kind: Kind
    prompts: tuple[Prompt, ...]
    wishes: Wishes

    @property
    def prompt_tokens(self) -> int:
        """Of all prompts, each counted once."""
        return sum(map(len, self.prompts))


async def read(kind: Kind, body: Any, engine: Engine, words: Words) -> Asked:
    """Raises Refused."""
    if not isinstance(body, Mapping):
        raise Refused("the body must be a JSON object")
    fields = Fields(body)
    model = fields.text("model")
    if model is not None and model != engine.model:
        raise Refused(
            f"the model {model!r} does not exist; {engine.model!r} is served", "model", "model_not_found", status=404
        )
    wishes = read_wishes(fields, DEFAULT_TOKENS if kind == "completion" else None)
    found = await (prompts.of_completion if kind == "completion" else prompts.of_chat)(fields, words)
    return Asked(kind, found, wishes)


def sampling(wishes: Wishes, prompt: Prompt, index: int, max_context: int, ends: tuple[int, ...]) -> Sampling:
    """For the choice ``index`` of a prompt. ``ends``: the model's own end tokens; ``max_context`` 0: not known yet.

    Raises:
        Refused: prompt and answer do not fit into the context.
    """
    room = max_context - len(prompt)
    wanted = wishes.max_tokens if wishes.max_tokens is not None else room if max_context else DEFAULT_TOKENS
    if max_context and (room < 1 or wanted > room):
        size = f"the context is {max_context} tokens, and there are {len(prompt)} of prompt"
        raise Refused(
            f"'max_tokens' of {wanted} is too many: {size}" if room >= 1 else size,
            "max_tokens" if room >= 1 else "prompt",
            "context_length_exceeded",
        )
    return Sampling(
        max_tokens=wanted,
        temperature=wishes.temperature,
        top_p=wishes.top_p,
        top_k=wishes.top_k,
        seed=wishes.seed + index,
        # Ends that come too early are passed over, so the engine must not act on them.
        stop_tokens=() if wishes.min_tokens else stop_tokens(wishes, ends),
    )


def stop_tokens(wishes: Wishes, ends: tuple[int, ...]) -> tuple[int, ...]:
    """All tokens that end this answer."""
    return tuple(dict.fromkeys((*(() if wishes.ignore_eos else ends), *wishes.stop_tokens)))
