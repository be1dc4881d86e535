"""Which requests a workload keeps, and a count, by reason, of those it does not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thunderserve.workload.lengths import Ints, Sampler

_HOPELESS = 100_000
"""Requests drawn in a row, without one that fits, after which there seem to be none."""


@dataclass(frozen=True)
class Limits:
    """Longest prompt, longest output, and longest sum of both (the context of the model); None for no limit."""

    prompt: int | None = None
    output: int | None = None
    context: int | None = None

    def reasons(self, prompt: Ints, output: Ints) -> list[tuple[str, NDArray[np.bool_]]]:
        """In order: a reason in words and the requests it rules out. A request counts for its first reason."""
        found = [("no prompt or no output", (prompt < 1) | (output < 1))]
        if self.prompt is not None:
            found.append((f"prompt > {self.prompt}", prompt > self.prompt))
        if self.output is not None:
            found.append((f"output > {self.output}", output > self.output))
        if self.context is not None:
            found.append((f"prompt + output > {self.context}", prompt + output > self.context))
        return found

    def keep(self, prompt: Ints, output: Ints) -> tuple[NDArray[np.bool_], list[NDArray[np.bool_]]]:
        """The requests that stay, and by reason (as ``reasons`` orders them) those that go."""
        stays = np.ones(len(prompt), dtype=bool)
        gone = []
        for _, rules_out in self.reasons(prompt, output):
            gone.append(stays & rules_out)
            stays &= ~rules_out
        return stays, gone

    def count(self, prompt: Ints, output: Ints, upto: int | None = None) -> dict[str, int]:
        """How many of the first ``upto`` requests go, by reason; reasons that never apply are left out."""
        _, gone = self.keep(prompt[:upto], output[:upto])
        names = [name for name, _ in self.reasons(prompt[:0], output[:0])]
        return {name: int(mask.sum()) for name, mask in zip(names, gone, strict=True) if mask.any()}


def drawn_within(
    sampler: Sampler, limits: Limits, seed: int, purpose: str, count: int
) -> tuple[Ints, Ints, dict[str, int]]:
    """``count`` pairs that fit, and how many were drawn in vain, by reason.

    Raises ValueError when none of the first 100,000 fits.
    """
    prompts: list[Ints] = []
    outputs: list[Ints] = []
    dropped: Counter[str] = Counter()
    have = skip = 0
    while have < count:
        block = max(1024, count - have)
        prompt, output = sampler.draw(seed, purpose, block, skip)
        stays = np.flatnonzero(limits.keep(prompt, output)[0])[: count - have]
        used = int(stays[-1]) + 1 if len(stays) == count - have else block
        dropped.update(limits.count(prompt, output, used))
        prompts.append(prompt[stays])
        outputs.append(output[stays])
        have, skip = have + len(stays), skip + block
        if not have and skip >= _HOPELESS:
            raise ValueError(f"none of {skip:,} requests fits: {', '.join(dropped)}")
    empty = np.zeros(0, dtype=np.int64)
    return np.concatenate([empty, *prompts]), np.concatenate([empty, *outputs]), dict(dropped)
