"""``harness bench scheduler``: how fast ThunderServe's planner is, how near the optimum, and what its plans look like.

Times are CPU seconds of this one process, after compilation. Sections: ``search`` (cloud-32 under both Azure workloads: time to
within 1 % of the best score known, speed, error of the estimate, gap to the bound), ``saturation`` (near capacity: what plans
of a limited time are worth on fresh requests, with and without the search's longer sample), ``lightweight`` (rescheduling),
``shapes`` (who prefills, who decodes), ``scale`` (128 cards; 1,024 with ``--large``). ``harness bench search`` holds searches
against all solutions of small clusters, and starts against each other.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from harness.bench import _search_problems

if TYPE_CHECKING:
    from thunderserve.policy import Problem
    from thunderserve.scheduler.score import Score
    from thunderserve.scheduler.search import Found
    from thunderserve.scheduler.solution import Solution
    from thunderserve.scheduler.system import System
    from thunderserve.scheduler.tabu import Step
    from thunderserve.spec.cluster import Cluster
    from thunderserve.spec.plan import Plan

LOADS = {"azure-code": 18.0, "azure-conv": 10.0}
"""Requests a second at which cloud-32 attains most but not all of an SLO of scale 5."""
PAPER = "20 to 50 s to a good plan, 54 s to plan anew, 13 s lightweight (ThunderServe, MLSys 2025)"


def main(arguments: list[str]) -> int:
    """Print the sections asked for (all but the large ones by default)."""
    parser = argparse.ArgumentParser(prog="harness bench scheduler", description=__doc__)
    parser.add_argument("sections", nargs="*", choices=[[], *SECTIONS], help="which to run; all by default")
    parser.add_argument("--seeds", type=int, default=5, help="seeds of searches that are repeated")
    parser.add_argument("--seconds", type=float, default=2.0, help="saturation: CPU seconds of a whole plan")
    parser.add_argument("--large", action="store_true", help="scale: 1,024 cards as well")
    options = parser.parse_args(arguments)
    for name in options.sections or SECTIONS:
        _say(f"\n== {name}")
        for line in SECTIONS[name](options):
            _say(line)
    return 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def problem_of(cluster: Cluster | str, workload: str, rate_per_s: float, catalogue: str = "datasheet") -> Problem:
    """LLaMA-30B under a workload of the catalogue; a cluster by name has the cards of ``catalogue``."""
    from thunderserve.spec.load import load_cluster

    if isinstance(cluster, str):
        cluster = load_cluster(cluster, "paper" if catalogue == "paper" else "datasheet")
    return _search_problems.problem_of(cluster, "llama-30b", workload, rate_per_s)


@dataclass
class Course:
    """A search as it went: the best attainment after each step, by CPU second."""

    began_s: float = field(default_factory=time.process_time)
    at_s: list[float] = field(default_factory=list)
    best: list[float] = field(default_factory=list)

    def watch(self, step: Step[Solution, Score], _load: float) -> None:
        """The callback."""
        self.at_s.append(time.process_time() - self.began_s)
        self.best.append(float(step.progress.best[0]))

    def reached_s(self, attainment: float) -> float:
        """CPU seconds to this attainment; infinite if it was not reached."""
        return next((at for at, best in zip(self.at_s, self.best, strict=True) if best >= attainment), float("inf"))


def timed(system: System, problem: Problem) -> tuple[Plan, Found, Course, float]:
    """A whole planning run and its CPU seconds."""
    course = Course()
    plan, found = system.search(problem, course.watch)
    return plan, found, course, time.process_time() - course.began_s


def _warm() -> None:
    """Compile, or read from the cache, before anything is timed."""
    from thunderserve.scheduler.system import System

    System(steps=2).plan(problem_of("cloud-32", "azure-code", 4.0))


def search_section(options: argparse.Namespace) -> Iterator[str]:
    """Speed and quality on cloud-32."""
    from thunderserve.scheduler.bound import upper_bound
    from thunderserve.scheduler.system import System

    _warm()
    yield f"the paper: {PAPER}"
    for workload, rate in LOADS.items():
        problem = problem_of("cloud-32", workload, rate)
        runs = [timed(System(seed=seed), problem) for seed in range(options.seeds)]
        long = [timed(System(seed=seed, steps=300, no_gain=300), problem) for seed in range(min(options.seeds, 3))]
        best = max(run[2].best[-1] for run in [*runs, *long])
        reached = [run[2].reached_s(0.99 * best) for run in runs]
        plan, found, course, _ = runs[0]
        outcome = found.outcomes[0]
        bound = upper_bound(System().lower(problem))
        sample = System().requests + System().longer_requests
        yield (
            f"{workload} at {rate:g}/s: within 1 % of the best known ({best:.3f}) after "
            f"{statistics.median(reached):.2f} CPU s (median of {len(runs)} seeds, worst {max(reached):.2f}); "
            f"whole plan {statistics.median(run[3] for run in runs):.2f} CPU s"
        )
        yield (
            f"  {outcome.steps / course.at_s[-1]:.0f} steps/s, "
            f"{outcome.scored / course.at_s[-1]:,.0f} solutions scored/s (of the whole search's time)"
        )
        yield (
            f"  attainment {found.searched:.3f} on the search's {sample} requests, {found.estimate.attainment:.3f} in closed "
            f"form, {found.judged.attainment:.3f} on 3,000 others; bound {bound.attainment:.3f} "
            f"(gap {bound.attainment - found.judged.attainment:.3f}); capacity {found.judged.capacity_per_s:.1f}/s, bound "
            f"{bound.capacity_per_s:.1f}/s"
        )
        yield f"  {_described(plan, problem.cluster)}"


def saturation_section(options: argparse.Namespace) -> Iterator[str]:
    """Plans of ``--seconds`` CPU seconds near capacity, judged on four samples that neither search has seen."""
    from harness.bench._search_saturation import PROBLEMS, judged
    from thunderserve.scheduler.system import System

    _warm()
    systems = {"both samples": System(), "the short one": System(longer_requests=0)}
    for name, make in PROBLEMS.items():
        found = {
            label: [judged(replace(system, seed=seed), make(seed), options.seconds) for seed in range(options.seeds)]
            for label, system in systems.items()
        }
        yield f"{name}: " + "; ".join(
            f"{label} {statistics.mean(values):.4f} [{min(values):.4f}, {max(values):.4f}]"
            for label, values in found.items()
        )


def lightweight_section(_: argparse.Namespace) -> Iterator[str]:
    """Four cards lost, and a workload that changes."""
    from thunderserve.scheduler.system import System

    _warm()
    system = System()
    for workload, rate in LOADS.items():
        problem = problem_of("cloud-32", workload, 0.6 * rate)
        plan, found = system.search(problem)
        lost = _one_node_of(plan, problem.cluster)
        other = next(name for name in LOADS if name != workload)
        for what, changed, gone in (
            ("4 cards lost", problem, lost),
            (f"shift to {other}", problem_of("cloud-32", other, 0.5 * LOADS[other]), ()),
        ):
            began = time.process_time()
            light = system.reschedule(plan, changed, gone)
            seconds = time.process_time() - began
            every = system.reschedule(plan, changed, gone, every=True)
            anew = timed(system, _without(changed, gone))
            yield (
                f"{workload}, {what}: lightweight {seconds:.2f} CPU s, attainment {light.score.attainment:.3f} (before "
                f"{found.judged.attainment:.3f}; best of all {every.estimated} assignments of phases "
                f"{every.score.attainment:.3f}); full {anew[3]:.2f} CPU s, {anew[1].judged.attainment:.3f}"
            )


def _one_node_of(plan: Plan, cluster: Cluster) -> tuple[int, ...]:
    """Four cards of the node of the first replica."""
    node = cluster.devices[plan.replicas[0].devices[0]].node
    return tuple(device.id for device in cluster.devices if device.node == node)[:4]


def _without(problem: Problem, lost: tuple[int, ...]) -> Problem:
    """The problem on what is left of the cluster, its cards numbered anew."""
    cluster = problem.cluster
    kept = [device for device in cluster.devices if device.id not in lost]
    number = {device.id: place for place, device in enumerate(kept)}
    nodes = {device.node for device in kept}
    smaller = cluster.model_copy(
        update={
            "devices": tuple(device.model_copy(update={"id": number[device.id]}) for device in kept),
            "inside": {node: link for node, link in cluster.inside.items() if node in nodes},
            "bridges": tuple(
                bridge.model_copy(update={"first": number[bridge.first], "second": number[bridge.second]})
                for bridge in cluster.bridges
                if bridge.first in number and bridge.second in number
            ),
            "between": tuple(pair for pair in cluster.between if {pair.source, pair.target} <= nodes),
        }
    )
    # Built anew: a copy would keep look-ups of the larger cluster.
    return replace(problem, cluster=type(cluster).model_validate(smaller.model_dump()))


def shapes_section(_: argparse.Namespace) -> Iterator[str]:
    """Who prefills and who decodes, by catalogue, workload and load."""
    from thunderserve.scheduler.system import System

    for catalogue, loads in (
        ("datasheet", {"azure-code": (6.0, 18.0), "azure-conv": (3.0, 10.0)}),
        ("paper", {"azure-code": (4.0, 9.0), "azure-conv": (3.0, 7.0)}),
    ):
        for workload, rates in loads.items():
            for rate in rates:
                problem = problem_of("cloud-32", workload, rate, catalogue=catalogue)
                plan, found = System().search(problem)
                yield f"{catalogue}, {workload} at {rate:g}/s, attainment {found.judged.attainment:.3f}:"
                yield f"  {_described(plan, problem.cluster)}"


def _described(plan: Plan, cluster: Cluster) -> str:
    """``12 replicas, 8 prefill : 4 decode; prefill: 4 x 2xA40 TP=2, PP=1 ...``."""
    counted: dict[str, Counter[str]] = {"prefill": Counter(), "decode": Counter(), "both": Counter()}
    for replica in plan.replicas:
        cards = Counter(cluster.devices[device].gpu for device in replica.devices)
        name = "+".join(f"{count}x{gpu}" for gpu, count in sorted(cards.items()))
        counted[replica.phase.value][f"{name} {replica.describe()}"] += 1
    parts = [
        f"{phase}: " + ", ".join(f"{times} x {shape}" for shape, times in sorted(shapes.items()))
        for phase, shapes in counted.items()
        if shapes
    ]
    numbers = " : ".join(f"{sum(shapes.values())} {phase}" for phase, shapes in counted.items() if shapes)
    return f"{len(plan.replicas)} replicas, {numbers}; " + "; ".join(parts)


def scale_section(options: argparse.Namespace) -> Iterator[str]:
    """Random mixed clusters of growing size under a load that grows with them."""
    from thunderserve.scheduler.system import System
    from thunderserve.spec.generate import random_cluster

    _warm()
    for cards in [32, 128, 1024] if options.large else [32, 128]:
        problem = problem_of(random_cluster(cards, 1), "azure-conv", cards * 0.19)
        plan, found, _, seconds = timed(System(), problem)
        yield (
            f"{cards} cards in {len(problem.cluster.nodes)} nodes: {seconds:.1f} CPU s, {len(found.outcomes)} parts, "
            f"{len(plan.replicas)} replicas, attainment {found.judged.attainment:.3f}"
        )


Section = Callable[[argparse.Namespace], Iterator[str]]
SECTIONS: dict[str, Section] = {
    "search": search_section,
    "saturation": saturation_section,
    "lightweight": lightweight_section,
    "shapes": shapes_section,
    "scale": scale_section,
}
