"""A request inside one replica."""

from __future__ import annotations

from dataclasses import dataclass, field

from thunderserve.engine.messages import Sampling, Submit, Target


@dataclass
class Sequence:
    """Tokens and blocks of one request; its counters stand in row ``row`` of the pool."""

    id: int
    row: int
    tokens: list[int]
    """The prompt and all tokens emitted, those of other replicas included."""
    prompt: int
    """How many of ``tokens`` are the client's."""
    sampling: Sampling
    target: Target | None = None
    """Where it goes after its prefill."""
    table: list[int] = field(default_factory=list)
    names: list[bytes] = field(default_factory=list)
    """Of the full blocks of ``tokens``, as far as they have been asked for."""
    cached: int = 0
    """Tokens whose keys and values are in memory."""
    preemptions: int = 0
    first_said: bool = False
    """This replica has said a token of it."""
    arrived: bool = False
    """Its prefill was done elsewhere."""
    leaving: bool = False
    """Its keys and values are on their way to ``target``."""

    @property
    def emitted(self) -> int:
        """Tokens that the client has or will have in a moment."""
        return len(self.tokens) - self.prompt


def sequence_of(submit: Submit, row: int) -> Sequence:
    """What a ``Submit`` asks for."""
    tokens = [*submit.prompt, *submit.emitted]
    return Sequence(submit.id, row, tokens, len(submit.prompt), submit.sampling, submit.decode_at)
