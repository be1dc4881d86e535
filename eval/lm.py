"""The same measurement as a model of lm-eval, for its own command line and evaluator: one codec at a time.

import eval.lm                              # registers it
lm_eval.simple_evaluate("thunderserve-kv", model_args="pretrained=smollm2-135m,codec=int4", tasks=["coqa"])
"""

from __future__ import annotations

from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model

from eval.answering import Answering, encode, first_token, fitted
from eval.contract import RAW
from eval.measure import DEFAULT_LENGTH
from eval.tasks import stops_of
from eval.weights import load
from thunderserve.engine.checkpoint.locate import locate


@register_model("thunderserve-kv")
class KvRoundTrip(TemplateLM):  # type: ignore[misc]  # lm-eval has no types
    """A Hugging Face model whose context KV takes one round trip through ``codec``; ``exact`` is lm-eval's own HF model."""

    def __init__(
        self, pretrained: str, codec: str = RAW, dtype: str = "float32", wire_dtype: str = "float16",
        device: str = "cpu", batch_size: int | str = 1, **_: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        self.weights = load(locate(pretrained), dtype=dtype, device=device)
        self.codec, self.batch = codec, int(batch_size)
        self.answering = Answering(self.weights, [codec], wire_dtype)

    @property
    def eot_token_id(self) -> int:
        """Ends a text."""
        return int(self.weights.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """Stands before a text without context."""
        return first_token(self.weights)

    @property
    def tokenizer_name(self) -> str:
        """For lm-eval's cache."""
        return str(self.weights.tokenizer.name_or_path)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:  # noqa: ARG002
        """See ``TemplateLM``."""
        return list(encode(self.weights, string))

    def _loglikelihood_tokens(
        self,
        requests: list[Any],
        disable_tqdm: bool = False,  # noqa: ARG002
        **_: Any,
    ) -> list[tuple[float, bool]]:
        found = []
        for _text, context, continuation in requests:
            kept = fitted(self.weights, tuple(context), len(continuation))
            handed = self.answering.hand_over([kept], [self.codec])[0][self.codec]
            one = self.answering.likelihoods([handed], [tuple(continuation)])[0][0]
            found.append((one.total, one.greedy))
        return found

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """A text without context has no KV to send: NotImplementedError. The ``perplexity`` task splits its text instead."""
        raise NotImplementedError("rolling log-likelihood has no context to send; use harness accuracy's perplexity")

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:  # noqa: ARG002
        """See ``LM``; greedy only, in batches of requests with the same stops."""
        texts = []
        for first in range(0, len(requests), self.batch):
            some = requests[first : first + self.batch]
            stops, longest = stops_of(some[0].args[1])
            if any(stops_of(request.args[1]) != (stops, longest) for request in some):
                raise ValueError("requests of one batch must have the same stops; use batch_size 1")
            length = longest or DEFAULT_LENGTH
            contexts = [fitted(self.weights, encode(self.weights, request.args[0]), length) for request in some]
            handed = [each[self.codec] for each in self.answering.hand_over(contexts, [self.codec])]
            texts += [ended.text for ended in self.answering.generate(handed, stops=stops, max_tokens=length)]
        return texts
