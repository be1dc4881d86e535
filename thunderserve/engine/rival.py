"""One process, one engine, one batch of requests: what a comparison of engines starts twice, with equal conditions.

``python -m thunderserve.engine.rival '<one JSON object>'`` serves all prompts at once, by our replica or by transformers' own
continuous batching, and prints one JSON object.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from thunderserve.engine.heap import keep_freed

Engine = Literal["thunderserve", "transformers"]


@dataclass(frozen=True)
class Bout:
    """What is to be served."""

    engine: Engine
    model: str
    dtype: str = "bfloat16"
    threads: int = 1
    prompts: int = 24
    shortest: int = 50
    longest: int = 400
    output_tokens: int = 64
    batch_tokens: int = 512
    cache_tokens: int = 16384
    seed: int = 0

    def tokens(self, vocabulary: int) -> list[list[int]]:
        """Random prompts, the same for the same seed."""
        rng = np.random.default_rng(self.seed)
        lengths = rng.integers(self.shortest, self.longest + 1, self.prompts)
        return [rng.integers(0, vocabulary, int(length)).tolist() for length in lengths]


@dataclass(frozen=True)
class Result:
    """What it took, warm-up excluded."""

    wall_s: float
    cpu_s: float
    prompt_tokens: int
    output_tokens: int
    answers: list[list[int]]


def ours(bout: Bout) -> Result:
    """By ``Replica`` and ``Model``, as a worker runs them."""
    from thunderserve.engine.messages import Role, Sampling, Submit
    from thunderserve.engine.replica.core import Replica
    from thunderserve.engine.replica.model import Model

    model = Model(bout.model, dtype=bout.dtype)
    prompts, role = bout.tokens(model.vocabulary), Role("both", "chunked", 256, bout.batch_tokens)
    memory = model.memory(bout.cache_tokens // 16, 16)

    def serve(wanted: list[list[int]], output_tokens: int) -> list[list[int]]:
        replica = Replica(
            role, blocks=bout.cache_tokens // 16, block_tokens=16, max_context=model.max_context, reuse=False
        )
        answers: list[list[int]] = [[] for _ in wanted]
        for number, prompt in enumerate(wanted):
            replica.submit(Submit(number, tuple(prompt), Sampling(output_tokens)))
        while (step := replica.schedule(0.0)) is not None:
            for token in replica.complete(model.execute(step, memory), 0.0).tokens:
                answers[token.id].append(token.token)
        return answers

    serve(prompts[:2], 4)
    return _timed(lambda: serve(prompts, bout.output_tokens), prompts)


def theirs(bout: Bout) -> Result:
    """By ``generate_batch`` of transformers."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig
    from transformers.generation.configuration_utils import ContinuousBatchingConfig

    model: Any = AutoModelForCausalLM.from_pretrained(
        bout.model, dtype=getattr(torch, bout.dtype), attn_implementation="sdpa"
    )
    model.eval()
    prompts = bout.tokens(int(model.config.vocab_size))
    batching = ContinuousBatchingConfig(num_blocks=bout.cache_tokens // 256, max_batch_tokens=bout.batch_tokens)

    def serve(wanted: list[list[int]], output_tokens: int) -> list[list[int]]:
        settings: Any = GenerationConfig
        settings = settings(max_new_tokens=output_tokens, do_sample=False, eos_token_id=-1, pad_token_id=0)
        found = model.generate_batch(
            inputs=wanted, generation_config=settings, continuous_batching_config=batching, progress_bar=False
        )
        by_prompt = {tuple(one.prompt_ids): list(one.generated_tokens) for one in found.values()}
        return [by_prompt[tuple(prompt)] for prompt in wanted]

    serve(prompts[:2], 4)
    return _timed(lambda: serve(prompts, bout.output_tokens), prompts)


def _timed(serve: Any, prompts: list[list[int]]) -> Result:
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    answers = serve()
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    return Result(wall_s, cpu_s, sum(map(len, prompts)), sum(map(len, answers)), answers)


def main() -> None:
    """Serve the bout of the command line."""
    bout = Bout(**json.loads(sys.argv[1]))
    os.environ["OMP_NUM_THREADS"] = str(bout.threads)
    os.environ["TQDM_DISABLE"] = "1"
    keep_freed()
    import torch

    torch.set_num_threads(bout.threads)
    result = ours(bout) if bout.engine == "thunderserve" else theirs(bout)
    sys.stdout.write(json.dumps(asdict(result)) + "\n")


if __name__ == "__main__":
    main()
