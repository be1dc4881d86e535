"""What is asked of an accuracy measurement, and what comes back: one answer a question and codec."""

from __future__ import annotations

from dataclasses import dataclass, field

EXACT = "exact"
"""Not a codec: the KV stays as computed, not even rounded to 16 bit. What lm-eval's own Hugging Face model does."""
RAW = "raw"
"""16 bit as sent: what every other codec is compared with."""

TASKS = ("coqa", "truthfulqa_gen", "truthfulqa_mc1", "truthfulqa_mc2", "gsm8k", "perplexity")


@dataclass(frozen=True)
class Ask:
    """One model on one task, for several codecs at once, so that a context is prefilled once."""

    model: str
    """A packaged model, a folder, a .gguf file, or a hub name."""
    task: str
    codecs: tuple[str, ...]
    """Names of KV codecs; ``raw`` is 16 bit, ``exact`` no round trip at all."""
    limit: int | None = None
    """Questions; None for all."""
    seed: int = 0
    """0 takes the first questions, as lm-eval does; any other number a random choice."""
    data: str | None = None
    """A folder with ``coqa/``, ``truthfulqa/`` and ``gsm8k/``; None for the hub."""
    batch: int = 1
    """Contexts prefilled and decoded together. On a CPU 1 is fastest: it shares prefixes between questions."""
    dtype: str = "float32"
    """Of the model's arithmetic."""
    wire_dtype: str = "float16"
    """The 16-bit format in which KV is handed to the codec."""
    device: str = "cpu"
    threads: int = 1


@dataclass(frozen=True)
class Answer:
    """One question under one codec. Log-likelihoods are natural logarithms, summed over tokens."""

    question: int
    """Its index among the task's documents."""
    codec: str
    scores: dict[str, float] = field(default_factory=dict)
    """The task's own metrics by lm-eval's names; ``exact_match,strict-match`` where a filter takes part."""
    output: str | None = None
    """What was generated; None for tasks that only score."""
    output_tokens: int = 0
    loglikelihoods: tuple[float, ...] = ()
    """Of each choice, or of the reference answer where text is generated."""
    continuation_tokens: tuple[int, ...] = ()
    """Tokens of each of these."""
    kl: float | None = None
    """Mean Kullback-Leibler divergence a token from the distribution under ``raw``, over these continuations, in nats."""
    context_tokens: int = 0
    raw_bytes: int = 0
    """The context's KV at 16 bit."""
    wire_bytes: int = 0
    """The same as sent."""
    group: str = ""
    """Questions of one group are not independent (the turns of a conversation)."""
