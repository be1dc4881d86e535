"""Contexts prefilled once, in full precision; what two of them begin with alike is computed once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from transformers import DynamicCache

from eval.weights import Layers, Weights, cache_of, layers_of

Tokens = tuple[int, ...]
KEPT = 4
"""Contexts remembered: the turns of a conversation and the few-shot examples of a task follow one another."""
SHORTEST = 8
"""Tokens in common that are worth a look."""


class Prefiller:
    """Remembers the KV of the last contexts, and computes only where a new one departs from the nearest of them."""

    def __init__(self, weights: Weights, kept: int = KEPT, *, together: bool | None = None) -> None:
        self.weights, self.kept = weights, kept
        self.together = weights.device.type != "cpu" if together is None else together
        """Whether several new contexts go through the model in one padded batch: right for a GPU. A CPU gains nothing by it, and
        loses the prefixes."""
        self._known: OrderedDict[Tokens, Layers] = OrderedDict()
        self.computed_tokens = 0
        """Tokens that went through the model so far."""

    def __call__(self, contexts: Sequence[Tokens]) -> list[Layers]:
        """KV of each context, computed after its longest known prefix, or several at once, padded on the left.

        A context of no tokens gives tensors of length 0. Raises FloatingPointError for values that are not finite.
        """
        missing = [tokens for tokens in dict.fromkeys(contexts) if tokens not in self._known]
        if self.together and len(missing) > 1:
            for tokens, layers in zip(missing, self._together(missing), strict=True):
                self._remember(tokens, layers)
        else:
            for tokens in missing:
                self._remember(tokens, self._after_prefix(tokens))
        found = [self._known[tokens] for tokens in contexts]
        for tokens in contexts:
            self._known.move_to_end(tokens)  # the latest of them are kept
        while len(self._known) > max(self.kept, 1):
            self._known.popitem(last=False)
        return found

    def _remember(self, tokens: Tokens, layers: Layers) -> None:
        for number, (keys, values) in enumerate(layers):
            if not (torch.isfinite(keys).all() and torch.isfinite(values).all()):
                raise FloatingPointError(f"layer {number} computed keys or values that are not finite")
        self._known[tokens] = layers

    def _after_prefix(self, tokens: Tokens) -> Layers:
        near, common = None, SHORTEST - 1
        for known in self._known:
            alike = shared_prefix(known, tokens)
            if alike > common:
                near, common = known, alike
        if near is None:
            return self._together([tokens])[0]
        if common == len(tokens):
            return _first(self._known[near], common)
        past, mask = cache_of([_first(self._known[near], common)])
        return self._run([tokens[common:]], past, mask)[0]

    def _together(self, contexts: list[Tokens]) -> list[Layers]:
        longest = max(map(len, contexts))
        mask = torch.zeros((len(contexts), longest), dtype=torch.long, device=self.weights.device)
        for row, tokens in enumerate(contexts):
            mask[row, longest - len(tokens) :] = 1
        return self._run(contexts, DynamicCache(), mask[:, :0], mask)

    def _run(
        self, new: list[Tokens], past: DynamicCache, before: torch.Tensor, now: torch.Tensor | None = None
    ) -> list[Layers]:
        """Feed ``new`` tokens, padded on the left, after ``past`` with the mask ``before``; ``now`` masks the new ones."""
        longest = max(1, *map(len, new))
        filler = self.weights.tokenizer.eos_token_id or 0
        rows = [[filler] * (longest - len(tokens)) + list(tokens) for tokens in new]
        ids = torch.tensor(rows, device=self.weights.device)
        if now is None or now.shape[1] == 0:
            now = torch.tensor([[0] * (longest - len(t)) + [1] * len(t) for t in new], device=self.weights.device)
        with torch.inference_mode():
            self.weights.forward(ids, torch.cat([before, now], 1), past, last=True)
        self.computed_tokens += sum(map(len, new))
        mask = torch.cat([before, now], 1)
        padding = (mask == 0).sum(1).tolist()
        return [layers_of(past, row, padding[row]) for row in range(len(new))]


def shared_prefix(a: Tokens, b: Tokens) -> int:
    """How many tokens both begin with."""
    for index, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return index
    return min(len(a), len(b))


def _first(layers: Layers, tokens: int) -> Layers:
    return tuple((keys[:, :tokens], values[:, :tokens]) for keys, values in layers)
