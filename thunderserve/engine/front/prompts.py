"""What a client wants answered: text, tokens or a conversation, on its way to lists of token ids."""

from __future__ import annotations

from typing import Any

from thunderserve.engine.front.fields import Fields, are_whole
from thunderserve.engine.front.refused import Refused
from thunderserve.engine.front.words import Words

MOST_PROMPTS = 256

Prompt = tuple[int, ...]


async def of_completion(body: Fields, words: Words) -> tuple[Prompt, ...]:
    """The prompts of ``prompt``: a text, a list of token ids, or a list of either. Raises Refused."""
    given = body.get("prompt")
    one = isinstance(given, str) or (isinstance(given, list) and len(given) > 0 and are_whole(given))
    several = [given] if one else given
    if not isinstance(several, list) or not several:
        raise body.wrong("prompt", "a string, a list of token ids, or a list of one of the two, not empty")
    if len(several) > MOST_PROMPTS:
        raise Refused(f"'prompt' has {len(several)} prompts; give at most {MOST_PROMPTS}", "prompt")
    return tuple([await _prompt(body, item, words) for item in several])


async def _prompt(body: Fields, given: Any, words: Words) -> Prompt:
    if isinstance(given, str):
        return _not_empty(await words.of_text(given), "prompt")
    if not isinstance(given, list) or not are_whole(given):
        raise body.wrong("prompt", "a string, a list of token ids, or a list of one of the two")
    if given and not 0 <= min(given) <= max(given) < words.count:
        raise Refused(f"'prompt' has a token id that is not in [0, {words.count})", "prompt")
    return _not_empty(given, "prompt")


def _not_empty(tokens: list[int], name: str) -> Prompt:
    if not tokens:
        raise Refused(f"'{name}' holds no token", name)
    return tuple(tokens)


async def of_chat(body: Fields, words: Words) -> tuple[Prompt, ...]:
    """The one prompt of ``messages``, through the model's chat template. Raises Refused."""
    given = body.get("messages")
    if not isinstance(given, list) or not given:
        raise body.wrong("messages", "a list of messages, not empty")
    messages = [_message(one, f"messages[{index}]") for index, one in enumerate(given)]
    return (_not_empty(await words.of_chat(messages), "messages"),)


def _message(given: Any, where: str) -> dict[str, str]:
    if not isinstance(given, dict) or not isinstance(given.get("role"), str):
        raise Refused(f"'{where}' must be an object with a role", where)
    content = given.get("content")
    if isinstance(content, list):
        content = "".join(_part(part, f"{where}.content[{index}]") for index, part in enumerate(content))
    if not isinstance(content, str):
        raise Refused(f"'{where}.content' must be a string, or a list of parts of text", f"{where}.content")
    return {"role": given["role"], "content": content}


def _part(given: Any, where: str) -> str:
    if not isinstance(given, dict) or given.get("type") != "text" or not isinstance(given.get("text"), str):
        raise Refused(f"'{where}' must be a part of type 'text': nothing else is supported", where)
    return str(given["text"])
