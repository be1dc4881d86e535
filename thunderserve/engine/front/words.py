"""From text to tokens: in the event loop where it is quick, beside it where it is not."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from thunderserve.engine.front.refused import Refused

SHORT = 4000
"""Characters that are turned into tokens in a millisecond or two."""

Messages = Sequence[Mapping[str, str]]


class Words:
    """The tokenizer of a model.

    Args:
        tokenizer: one of transformers.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        # Tokenizers are not to be shared between threads: the one beside the event loop has its own.
        self._beside = copy.deepcopy(tokenizer)
        self._thread = ThreadPoolExecutor(1, "front-tokenizer")
        self.count = len(tokenizer)
        """Token ids are below it."""
        self.unwritten = frozenset(
            int(number) for number, token in tokenizer.added_tokens_decoder.items() if token.special
        )
        """Tokens that are no text: begin, end, turns of a conversation."""

    async def of_text(self, text: str) -> list[int]:
        """The tokens of a prompt, begun as the model was taught."""
        return await self._somewhere(len(text), lambda tokenizer: _encoded(tokenizer, text, special=True))

    async def of_chat(self, messages: Messages) -> list[int]:
        """The tokens of a conversation with the beginning of the answer. Raises Refused."""
        size = sum(len(message["content"]) for message in messages)
        return await self._somewhere(size, lambda tokenizer: _conversation(tokenizer, messages))

    def close(self) -> None:
        """The thread ends."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _somewhere(self, size: int, work: Callable[[Any], list[int]]) -> list[int]:
        if size <= SHORT:
            return work(self.tokenizer)
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._beside)


def _encoded(tokenizer: Any, text: str, *, special: bool) -> list[int]:
    found: list[int] = tokenizer.encode(text, add_special_tokens=special)
    return found


def _conversation(tokenizer: Any, messages: Messages) -> list[int]:
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        raise Refused("this model has no chat template; use /v1/completions", "messages")
    try:
        text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    except TemplateError as error:
        raise Refused(f"the model's chat template refuses these messages: {error}", "messages") from error
    return _encoded(tokenizer, text, special=False)  # the template writes them
