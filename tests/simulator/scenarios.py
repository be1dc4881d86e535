"""Small random fleets and traces. All times are multiples of a power of two, so that both sides add them up exactly
and simultaneous events are simultaneous on both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from thunderserve.cost.step_table import StepTable
from thunderserve.serving.pool import Limits
from thunderserve.serving.router import Router
from thunderserve.simulator.fleet import ReplicaSetup, RouteSetup

TICK = 2.0**-10
FINE = 2.0**-16


@dataclass(frozen=True)
class Scenario:
    replicas: list[ReplicaSetup]
    routes: list[RouteSetup]
    router: Router
    links: int
    arrivals: np.ndarray
    prompts: np.ndarray
    outputs: np.ndarray


def step_table(rng: np.random.Generator, stages: int, *, tick: float = TICK, fine: float = FINE) -> StepTable:
    """Ascending times over knots a power of two apart, with every term present."""

    def ascending(*shape: int, unit: float, high: int) -> np.ndarray:
        return np.cumsum(rng.integers(0, high, shape), axis=-1) * unit

    decode = ascending(stages, 3, 5, unit=fine, high=40)
    return StepTable(
        fixed_s=rng.integers(1, 8, stages) * tick,
        token_knots=np.array([1, 9, 25, 57]),
        token_s=ascending(stages, 4, unit=tick, high=9),
        logit_knots=np.array([1, 5]),
        logit_s=ascending(stages, 2, unit=tick, high=4),
        batch_knots=np.array([1, 3, 7]),
        context_knots=np.array([1, 17, 33, 97, 225]),
        decode_s=np.sort(decode, axis=1),
        chunk_knots=np.array([1, 17, 81]),
        pair_s=rng.integers(0, 5, (stages, 3)) * fine * 2.0**-4,
        chunk_s=rng.integers(0, 4, stages) * tick,
        hop_s=np.append(rng.integers(0, 4, stages - 1) * tick, 0.0),
        hop_s_per_token=np.append(rng.integers(0, 3, stages - 1) * fine, 0.0),
    )


def coarse_table(rng: np.random.Generator, stages: int) -> StepTable:
    """Every step takes one or two ticks on each stage, whatever its batch: most events meet others at the same instant."""
    table = step_table(rng, stages)
    still = {name: 0 * value for name, value in table._asdict().items() if not name.endswith("knots")}
    return table._replace(**(still | {"fixed_s": rng.integers(1, 3, stages) * TICK}))


@st.composite
def limits(draw: st.DrawFn) -> Limits:
    block = draw(st.integers(1, 8))
    return Limits(
        chunked=draw(st.booleans()),
        stages=draw(st.integers(1, 3)),
        block_tokens=block,
        blocks=draw(st.integers(8, 120)) // block + 4,
        watermark_blocks=draw(st.integers(0, 2)),
        max_sequences=draw(st.integers(1, 6)),
        max_batched_tokens=draw(st.integers(1, 64)),
    )


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.integers(1, 4))
    coarse = draw(st.booleans())
    make = coarse_table if coarse else step_table
    shapes = draw(st.lists(limits(), min_size=count, max_size=count))
    replicas = [ReplicaSetup(make(rng, one.stages), one) for one in shapes]
    fine = 0.0 if coarse else FINE
    rank = draw(st.permutations(range(count)))  # replicas hand over to those of higher rank
    pairs = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)).filter(
        lambda pair: rank[pair[0]] <= rank[pair[1]]
    )
    links = draw(st.integers(1, 3))
    routes = [
        RouteSetup(
            prefill,
            decode,
            share=float(draw(st.integers(1, 4))),
            links=tuple(draw(st.sets(st.integers(0, links - 1)))),
            alpha_s=draw(st.integers(0, 4 if coarse else 20)) * TICK,
            s_per_token=draw(st.integers(0, 64)) * fine,
            encode_s_per_token=draw(st.integers(0, 16)) * fine,
            decode_s_per_token=draw(st.integers(0, 16)) * fine,
            layers=draw(st.sampled_from([0, 0, 2, 8])),
        )
        for prefill, decode in sorted(draw(st.sets(pairs, min_size=1, max_size=6)))
    ]
    requests = draw(st.integers(1, 40))
    gap = draw(st.sampled_from([0, 1, 4, 64, 512]))
    return Scenario(
        replicas=replicas,
        routes=routes,
        router=draw(st.sampled_from(list(Router))),
        links=links,
        arrivals=np.cumsum(rng.integers(0, gap + 1, requests)) * TICK,
        prompts=rng.integers(1, draw(st.sampled_from([2, 20, 60])), requests),
        outputs=rng.integers(1, draw(st.sampled_from([2, 8, 60])), requests),
    )
