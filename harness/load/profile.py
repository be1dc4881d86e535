"""Step times of any OpenAI-compatible server, seen from outside: prompts alone, and gaps between tokens of a known batch.

What a step takes here includes what the server does around it (HTTP, sampling, telling): that is what its users wait for.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from harness.load.asks import asks_of
from harness.load.drive import drive
from harness.load.outcome import Outcome
from harness.load.server import served
from thunderserve.backend import Deployment
from thunderserve.engine.profile import Measured, Shape
from thunderserve.spec.errors import SpecError
from thunderserve.spec.load import load_cluster, load_model
from thunderserve.spec.plan import Batching, Flow, Phase, Plan, Replica, Stage
from thunderserve.spec.trace import Trace

LEAST_GAPS = 4
"""Steps in which the whole batch must have been decoding for its time to count."""


@dataclass(frozen=True)
class Grid:
    """The shapes that are measured."""

    prefill_tokens: tuple[int, ...] = (32, 64, 128, 256, 512)
    """Longer than any batch: see ``short_prompts``."""
    decode_batches: tuple[int, ...] = (1, 2, 4, 8, 16)
    decode_contexts: tuple[int, ...] = (16, 128, 512)
    repeats: int = 3
    """Of every prompt length, a token apart, since hardly any prompt has the length of another; the median counts."""
    decode_steps: int = 24
    """Wanted of a whole batch."""
    step_tokens: int = 256
    """While a batch is filled, its first members decode one token for about so many prompt tokens of the others."""


Note = Callable[[int, int], None]


async def measure(url: str, model: str | None, grid: Grid, note: Note = lambda _done, _all: None) -> list[Measured]:
    """Ask the server at ``url`` for every shape of the grid that its context allows. Nobody else should be asking.

    Raises:
        SpecError: there is no such server or model, it does not answer, or its tokens do not come one by one.
    """
    found = await served(url, model)
    context = found.max_context or max(grid.decode_contexts) + 512
    shapes = list(_shapes(grid, context))
    maker = _Asker(url, found.name, found.vocabulary or 32000)
    await maker.ask([32] * 2, 8)  # what a server prepares for its first requests is not a step's time
    measured = []
    for number, shape in enumerate(shapes):
        if shape.phase == "prefill":
            measured.append(await _prefill(maker, shape, grid.repeats))
        else:
            measured.append(await _decode(maker, shape, grid))
        note(number + 1, len(shapes))
    return [*short_prompts(measured), *measured]


def short_prompts(measured: Sequence[Measured]) -> list[Measured]:
    """Prefills of as many tokens as there were sequences in a batch, taken from its steps at the shortest context.

    A step computes so many tokens, whoever they belong to. Seen from outside a short prompt alone takes longer, for the request
    that brings it, and would make every decoding step look as slow.
    """
    steps = [one for one in measured if one.shape.phase == "decode"]
    found: dict[int, Measured] = {}
    for one in sorted(steps, key=lambda one: one.shape.context):
        found.setdefault(one.shape.batch, one)
    return [Measured(Shape("prefill", batch, 1, 0), one.seconds) for batch, one in sorted(found.items())]


def _shapes(grid: Grid, max_context: int) -> Iterator[Shape]:
    for tokens in grid.prefill_tokens:
        if tokens + grid.repeats < max_context:
            yield Shape("prefill", tokens, 1, 0)
    for context, batch in itertools.product(grid.decode_contexts, grid.decode_batches):
        if context + _outputs(batch, context, grid) < max_context:
            yield Shape("decode", batch, batch, context)


def _outputs(batch: int, context: int, grid: Grid) -> int:
    """Tokens that each member of a batch is asked for, so that all are decoding for long enough."""
    return grid.decode_steps + batch + batch * context // grid.step_tokens


class _Asker:
    """Sends requests that begin together; no two have a prompt in common."""

    def __init__(self, url: str, model: str, vocabulary: int) -> None:
        self._url, self._model, self._vocabulary, self._seed = url, model, vocabulary, 0

    async def ask(self, prompts: Sequence[int], output: int) -> tuple[Outcome, ...]:
        self._seed += 1
        trace = Trace(np.zeros(len(prompts)), np.array(prompts), np.full(len(prompts), output))
        asks = asks_of(trace, self._seed, vocabulary=self._vocabulary)
        outcomes = (await drive(self._url, self._model, asks)).outcomes
        if wrong := next((one.error for one in outcomes if one.error), ""):
            raise SpecError(f"a request failed: {wrong}", value=self._url, remedy="see the server's log")
        return outcomes


async def _prefill(maker: _Asker, shape: Shape, repeats: int) -> Measured:
    taken = []
    for repeat in range(repeats):
        length = max(1, shape.tokens + repeat - repeats // 2)
        (outcome,) = await maker.ask([length], 1)
        taken.append(outcome.token_s[0] - (outcome.sent_s or 0.0))
    return Measured(shape, statistics.median(taken))


async def _decode(maker: _Asker, shape: Shape, grid: Grid) -> Measured:
    outcomes = await maker.ask([shape.context] * shape.batch, _outputs(shape.batch, shape.context, grid))
    return whole_batch(outcomes, shape)


def whole_batch(outcomes: Sequence[Outcome], shape: Shape) -> Measured:
    """The median gap while all of ``outcomes`` were decoding, at the context that they had then. Raises SpecError for too few."""
    begin_s = max(one.token_s[0] for one in outcomes)
    end_s = min(one.token_s[-1] for one in outcomes)
    gaps, places = [], []
    for one in outcomes:
        inside = [(place, at_s) for place, at_s in enumerate(one.token_s) if begin_s <= at_s <= end_s]
        gaps += [later - sooner for (_, sooner), (_, later) in itertools.pairwise(inside)]
        places += [place for place, _ in inside]
    if len(gaps) < LEAST_GAPS * len(outcomes) or not statistics.median(gaps):
        raise SpecError(
            f"a batch of {shape.batch} was whole for {len(gaps) // len(outcomes)} steps only",
            remedy="measure smaller batches, or see that the server streams token by token",
        )
    context = shape.context + round(statistics.mean(places))
    return Measured(shape._replace(context=context), statistics.median(gaps))


def of_server(url: str, grid: Grid, note: Note = lambda _done, _all: None) -> list[Measured]:
    """Of a server that runs already. See ``measure``."""
    return asyncio.run(measure(url, None, grid, note))


def of_vllm(model: str, dtype: str, device: str, grid: Grid, note: Note = lambda _done, _all: None) -> list[Measured]:
    """Of one of two colocated vLLM instances, started as ``backend: vllm`` starts them: one core each where there are two.

    Raises:
        SpecError: vLLM is not there.
        LaunchError: an instance did not come up.
    """
    from thunderserve.engine.vllm.backend import Vllm, told

    async def main() -> list[Measured]:
        async with Vllm(device=device).running(_pair(model, dtype)) as launch:
            return await measure(told(launch)[0].url, model, grid, note)

    return asyncio.run(main())


def _pair(name: str, dtype: str) -> Deployment:
    """Two replicas that do both phases, on the two devices of this machine."""
    model = load_model(name).model_copy(update={"dtype_bytes": 4 if dtype == "float32" else 2})
    replicas = tuple(
        Replica(
            stages=(Stage(devices=(device,), num_layers=model.num_layers),), phase=Phase.BOTH,
            batching=Batching(policy="chunked"),
        )
        for device in (0, 1)
    )  # fmt: skip
    flows = tuple(Flow(prefill=one, decode=one, share=0.5) for one in (0, 1))
    return Deployment(Plan(system="profile", replicas=replicas, flows=flows), load_cluster("local-2"), model)
