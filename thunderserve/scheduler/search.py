"""The upper level: where to start, which moves, tabu search over them, and the last choice."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from thunderserve.policy import Problem
from thunderserve.scheduler.around import looking_around
from thunderserve.scheduler.decompose import at_share, joined, parts_of, shares
from thunderserve.scheduler.estimate import Estimate
from thunderserve.scheduler.headroom import CALM, headroom, lifted
from thunderserve.scheduler.lower import Lower
from thunderserve.scheduler.moves import Phases, moves_for, sampler
from thunderserve.scheduler.pipelines import pipelined
from thunderserve.scheduler.score import Score, Simulation
from thunderserve.scheduler.select import Judged, farthest, judged, judged_again, largest, last_round
from thunderserve.scheduler.solution import Cards, Group, Solution, canonical
from thunderserve.scheduler.start import clustered, phased, shuffled
from thunderserve.scheduler.stops import Stop, any_of, at_time, without_gain
from thunderserve.scheduler.tabu import DEFAULT_PARAMETERS, Outcome, Parameters, Step, tabu_search
from thunderserve.spec.plan import Phase

LAST_SHARE = 0.2
"""Share of a limited time that is kept for the final round."""
PART_NO_GAIN = 20
"""Steps without gain after which a part of a large cluster is left: it is one of many."""
Watch = Callable[[Step[Solution, Score], float], None]
"""Sees a step, and the multiple of the asked load that it is scored at."""


def ignore(_step: Step[Solution, Score], _load: float) -> None:
    """The callback that looks away."""


@dataclass(frozen=True)
class Settings:
    """How to search."""

    phases: Phases
    stop: Stop
    init: Literal["cluster", "random"] = "cluster"
    parameters: Parameters = DEFAULT_PARAMETERS
    seed: tuple[int, ...] = (0,)
    judged_requests: int = 3000
    """Length of each sample of the final round."""
    finalists: int = 8
    corrections: int = 3
    """Finalists whose flows are corrected by simulation; none where flows are uniform."""
    headroom: bool = True
    """Where nearly all requests meet their limits, search for the plan under which the load could rise farthest."""
    thorough: bool = True
    """Look at all neighbours of the best solution when a walk has gone on without gain."""
    starts: int = 8
    """Other solutions than the clustered one, the best by estimate, that the search may start from."""
    ends_s: float = math.inf
    """When ``clock`` has to end the search and the final round."""
    clock: Callable[[], float] = time.perf_counter
    part_cards: int = 48
    """Larger clusters are cut into parts of about this many cards."""

    def over(self) -> bool:
        """Whether time is up."""
        return self.clock() >= self.ends_s


@dataclass(frozen=True)
class Found:
    """What a search found."""

    estimate: Estimate
    searched: float
    """Attainment on the samples of the search."""
    judged: Score
    """On the first sample of the final round."""
    outcomes: tuple[Outcome[Solution, Score], ...]
    """One a search: mostly one a part."""
    loads: tuple[float, ...]
    """Multiples of the asked load at which they ran: above 1 where all is met at the asked one."""
    parts: int = 1
    """Of a large cluster."""
    headroom: float | None = None
    """The highest multiple of the load that keeps nine of ten requests within their limits; None: never asked."""

    @property
    def load_words(self) -> str:
        """``" at 4.9 times the load"``, or nothing."""
        low, high = min(self.loads), max(self.loads)
        if high == 1:
            return ""
        return f" at {low:.3g} times the load" if low == high else f" at {low:.3g} to {high:.3g} times the load"


def start(
    lower: Lower,
    phases: Phases,
    init: Literal["cluster", "random"],
    rng: np.random.Generator,
    cards: Cards | None = None,
) -> Solution:
    """The first solution, of all cards or of these. Raises ValueError, in words, if there is none."""
    used = cards or tuple(enumerate(lower.inventory.counts))
    if init == "random":
        return shuffled(lower.inventory, lower.capable, used, phases, rng)
    groups = clustered(lower.inventory, lower.capable, used)
    if Phase.PREFILL not in phases:
        return canonical(Group(phases[0], one) for one in groups)
    if len(groups) == 1:
        if Phase.BOTH in phases:
            return (Group(Phase.BOTH, groups[0]),)
        raise ValueError(
            f"{lower.inventory.cluster.name} holds the model only once, which leaves no group for the second phase; "
            "allow colocated replicas (phase_split: auto) or add cards"
        )
    return phased(groups, lower.leaning, lower.promise)


def other_starts(lower: Lower, settings: Settings, first: Solution) -> list[Solution]:
    """The most promising solutions with the groups of ``first``, or with some of them joined."""
    if settings.init == "random" or Phase.PREFILL not in settings.phases:
        return []
    found = pipelined([group.cards for group in first], lower.leaning, lower.able, lower.promise)
    return sorted((one for one in found if one != first), key=lower.promise)[: settings.starts]


def starts_of(lower: Lower, settings: Settings, first: Solution) -> tuple[list[Solution], Lower, float]:
    """All starts, the lower level at the load to search at, and the multiple of the asked load that it is.

    Where all starts meet all limits, closed forms rank them by a capacity that knows none: they are asked again under load.
    """
    starts = [first, *other_starts(lower, settings, first)]
    higher, load = lifted(lower, starts, settings.over) if settings.headroom else (lower, 1.0)
    if load > 1:
        starts = list(dict.fromkeys([*starts, *other_starts(higher, settings, first)]))
        higher, load = lifted(lower, starts, settings.over, load)
    return starts, higher, load


def climb(
    lower: Lower,
    settings: Settings,
    first: Solution,
    watch: Watch = ignore,
    others: Sequence[Solution] = (),
    load: float = 1.0,
) -> Outcome[Solution, Score]:
    """Tabu search from ``first`` and ``others``; ``watch`` hears that it runs at ``load``."""
    return tabu_search(
        [first, *others],
        sampler(list(moves_for(settings.phases).values()), lower.feasible),
        lower.score,
        settings.stop,
        parameters=settings.parameters,
        rng=np.random.default_rng(settings.seed),
        shortlist=lower.shortlist,
        around=looking_around(lower, settings.phases) if settings.thorough else None,
        watch=lambda step: watch(step, load),
    )


def run(problem: Problem, lower: Lower, settings: Settings, watch: Watch = ignore) -> Found:
    """The best solution found: the same seed, the same answer (unless it is the clock that ends the search)."""
    last = last_round(problem, lower, settings.judged_requests)
    if sum(lower.inventory.counts) > 4 * settings.part_cards // 3:
        return _by_parts(lower, settings, last, watch)
    first = start(lower, settings.phases, settings.init, np.random.default_rng(settings.seed))
    part = _searched(lower, settings, first, last, watch)
    chosen = part.chosen
    return Found(
        chosen.estimate, chosen.searched.attainment, chosen.judged, part.outcomes, part.loads, headroom=chosen.headroom
    )


class _Part(NamedTuple):
    chosen: Judged
    outcomes: tuple[Outcome[Solution, Score], ...]
    loads: tuple[float, ...]


def _searched(lower: Lower, settings: Settings, first: Solution, last: Sequence[Simulation], watch: Watch) -> _Part:
    """Search, then choose by ``last``; both together end in time.

    A search at a higher load may find plans that carry more and attain too little at the one asked for: then that is searched
    at, too.
    """
    now_s = settings.clock()
    in_time = at_time(now_s + (1 - LAST_SHARE) * (settings.ends_s - now_s), settings.clock)
    limited = replace(settings, stop=any_of(settings.stop, in_time))
    starts, higher, load = starts_of(lower, settings, first)
    outcome, known = _finalists(higher, limited, starts, last, watch, load)
    outcomes, loads = [outcome], [load]
    if load > 1:
        known = judged_again(lower, (one.estimate for one in known), last, settings.over)
        if max(one.attainment for one in known) < CALM and not settings.over():
            outcome, others = _finalists(lower, limited, starts, last, watch, 1.0)
            outcomes, loads, known = [*outcomes, outcome], [*loads, 1.0], known + others
    best = farthest(known, last, over=settings.over, always=load > 1) if settings.headroom else largest(known)
    return _Part(best, tuple(outcomes), tuple(loads))


def _finalists(
    lower: Lower, settings: Settings, starts: Sequence[Solution], last: Sequence[Simulation], watch: Watch, load: float
) -> tuple[Outcome[Solution, Score], list[Judged]]:
    """A search at ``load``, whose lower level is given, and its best solutions judged there."""
    outcome = climb(lower, settings, starts[0], watch, starts[1:], load)
    known = judged(
        lower,
        enough(lower, outcome, settings.finalists, settings.over),
        [one.at(load) for one in last],
        finalists=settings.finalists,
        corrections=0 if lower.estimator.orchestration.uniform else settings.corrections,
        over=settings.over,
    )
    return outcome, known


def enough(
    lower: Lower, outcome: Outcome[Solution, Score], finalists: int, over: Callable[[], bool]
) -> dict[Solution, Score]:
    """The scores on both traces of all that have run them; if too few have, of the best of those left behind as well.

    A leader that is only lucky leaves nearly all behind, and the last round shall have a choice.
    """
    found = dict(lower.race.finished)
    behind = sorted((one for one in outcome.known if one not in found), key=lambda one: (outcome.known[one], one))
    while behind and len(found) < finalists and not over():
        one = behind.pop()
        found[one] = lower.race.whole(lower.needed(one))
    return found


def _by_parts(lower: Lower, settings: Settings, last: Sequence[Simulation], watch: Watch) -> Found:
    """Plan each part of a large cluster with the share of the requests that its first solution could carry."""
    parts = parts_of(lower, settings.part_cards)
    rough = at_share(lower, 1 / len(parts))
    rng = np.random.default_rng(settings.seed)
    firsts = [start(rough, settings.phases, settings.init, rng, cards) for cards in parts]
    parted = shares([rough.needed(first).capacity_per_s for first in firsts])
    done: list[_Part] = []
    for number, (first, share) in enumerate(zip(firsts, parted, strict=True)):
        one, mine = at_share(lower, share), _for_part(settings, number, len(parts))
        done.append(_searched(one, mine, first, [each.at(share) for each in last], watch))
    whole = joined([(part.chosen.estimate, share) for part, share in zip(done, parted, strict=True)])
    searched = sum(part.chosen.searched.attainment * share for part, share in zip(done, parted, strict=True))
    outcomes, loads = (
        tuple(one for part in done for one in part.outcomes),
        tuple(one for part in done for one in part.loads),
    )
    asked = max(loads) > 1 and not settings.over()
    reach = headroom(last, whole) if asked else None
    return Found(whole, searched, last[0](whole), outcomes, loads, len(parts), reach)


def _for_part(settings: Settings, number: int, parts: int) -> Settings:
    """The settings for one part: its own seed, less patience and care, an even share of the time that is left."""
    now_s = settings.clock()
    return replace(
        settings,
        seed=(*settings.seed, number),
        thorough=False,
        stop=any_of(settings.stop, without_gain(PART_NO_GAIN)),
        ends_s=now_s + (settings.ends_s - now_s) / (parts - number),
    )


def notes(lower: Lower, found: Found) -> dict[str, str]:
    """What a reader of the plan wants to know of the search; nothing that depends on the machine's speed."""
    steps, scored = sum(one.steps for one in found.outcomes), sum(one.scored for one in found.outcomes)
    parts = f" in {found.parts} parts" if found.parts > 1 else ""
    sample = lower.race.requests
    rate_per_s = (found.headroom or 0.0) * lower.estimator.sample.rate_per_s
    return {
        "search": f"{steps} steps{parts}, {scored} solutions simulated{found.load_words}",
        "attainment": f"{found.judged.attainment:.4f} on requests the search had not seen; {found.searched:.4f} on its own "
        f"{sample}, {found.estimate.attainment:.4f} in closed form",
        "capacity": f"{found.judged.capacity_per_s:.3g} requests/s in closed form",
        **(
            {"headroom": f"nine of ten requests within the SLO up to {rate_per_s:.3g} requests/s"} if rate_per_s else {}
        ),
        "price": f"{-found.judged.saved_per_hour:.3f} USD/h of cards in use",
    }
