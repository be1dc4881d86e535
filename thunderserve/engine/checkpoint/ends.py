"""Which tokens end an answer of a model."""

from __future__ import annotations

from typing import Any


def end_tokens(folder: str) -> tuple[int, ...]:
    """Ids that end an answer, as the generation settings of a checkpoint have them, or else its configuration; perhaps none."""
    from transformers import AutoConfig, GenerationConfig

    try:
        given: Any = GenerationConfig.from_pretrained(folder).eos_token_id
    except OSError:
        given = None
    if given is None:
        config: Any = AutoConfig.from_pretrained(folder)
        given = config.get_text_config().eos_token_id
    if given is None:
        return ()
    return tuple(int(token) for token in given) if isinstance(given, (list, tuple)) else (int(given),)
