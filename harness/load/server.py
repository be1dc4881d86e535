"""What a server says of itself."""

from __future__ import annotations

from typing import NamedTuple

import aiohttp

from thunderserve.spec.errors import SpecError

PATIENCE_S = 10.0


class Served(NamedTuple):
    """A model of a server."""

    name: str
    max_context: int | None
    """Tokens of prompt and answer; None: it does not say."""
    vocabulary: int | None


async def served(url: str, name: str | None) -> Served:
    """The model called ``name``, or the first. Raises SpecError when there is no such server or model."""
    address = f"{url.rstrip('/')}/v1/models"
    try:
        timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(address) as response:
            response.raise_for_status()
            entries = {str(entry["id"]): entry for entry in (await response.json())["data"]}
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError, KeyError, TypeError) as error:
        why = str(error) or type(error).__name__
        remedy = "give the address of a running server, as http://127.0.0.1:8000"
        raise SpecError(f"no OpenAI-compatible server answers: {why}", value=address, remedy=remedy) from error
    chosen = name if name is not None else next(iter(entries), None)
    if chosen is None or chosen not in entries:
        raise SpecError(
            "the server has no such model", key="--model", value=name, remedy=f"it has {', '.join(entries)}"
        )
    entry = entries[chosen]
    return Served(chosen, entry.get("max_model_len"), entry.get("vocab_size"))
