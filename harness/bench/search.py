"""``harness bench search``: is tabu search the right one? Against other methods, against every solution, against the bound.

Three parts. ``--methods``: all search methods on cloud-32 (LLaMA-30B, both Azure workloads) and on random clusters, from the
same start, at equal evaluations (solutions simulated) and at equal CPU seconds. ``--starts``: tabu search from the clustered
and from a random start. ``--truth``: tabu search against all solutions of small random clusters. Without any: all three.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.bench._search_problems import RATES_PER_S, case_of, cloud, random_case

if TYPE_CHECKING:
    from harness.bench._search_runs import Budget, Run
    from thunderserve.policy import Problem


def main(arguments: list[str]) -> int:
    """Print tables; draw figures and keep the runs with ``--to``."""
    options = _options(arguments)
    whole = not (options.methods or options.starts or options.truth)
    if options.methods or whole:
        _methods(options)
    if options.starts or whole:
        _starts(options)
    if options.truth or whole:
        _truth(options)
    return 0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="harness bench search", description=__doc__)
    parser.add_argument("--methods", action="store_true", help="compare search methods")
    parser.add_argument("--only", nargs="*", help="these methods, beside tabu")
    parser.add_argument("--starts", action="store_true", help="compare the clustered with a random start")
    parser.add_argument("--truth", action="store_true", help="compare with all solutions of small clusters")
    parser.add_argument("--seconds", type=float, default=1.5, help="CPU seconds of a search")
    parser.add_argument("--evaluations", type=int, default=120, help="solutions simulated by a search")
    parser.add_argument("--seeds", type=int, default=8, help="searches a method and problem")
    parser.add_argument(
        "--first-seed", type=int, default=0, help="to repeat a comparison on seeds it was not drawn from"
    )
    parser.add_argument("--start-seeds", type=int, default=20, help="searches a start and problem")
    parser.add_argument("--random", type=int, default=2, help="random clusters beside cloud-32")
    parser.add_argument("--cards", type=int, default=16, help="cards of each of these")
    parser.add_argument("--episodes", type=int, default=120, help="walks that the learned policy is trained on")
    parser.add_argument("--clusters", type=int, default=200, help="small clusters of --truth")
    parser.add_argument("--devices", type=int, nargs=2, default=(2, 8), help="least and most cards of these")
    parser.add_argument(
        "--limit-s", type=float, default=900.0, help="CPU seconds after which --truth takes no more clusters"
    )
    parser.add_argument("--to", type=Path, help="folder for figures (PDF, PNG) and runs (JSON)")
    return parser.parse_args(arguments)


def _methods(options: argparse.Namespace) -> None:
    from harness.bench._search_runs import Budget, compare, taught
    from harness.bench._search_table import better, table
    from thunderserve.scheduler.methods.named import methods

    policy, training_s = taught(options.episodes)
    _say(
        f"the learned policy took {training_s:.1f} CPU s to train, which are not counted below: {_weights(policy.weights)}\n"
    )
    chosen = methods(policy)
    if options.only is not None:
        unknown = sorted(set(options.only) - set(chosen))
        if unknown:
            raise SystemExit(f"unknown methods {', '.join(unknown)}; there are {', '.join(chosen)}")
        chosen = {name: method for name, method in chosen.items() if name in ("tabu", *options.only)}
    budget = Budget(options.seconds, options.evaluations)
    problems = [*_cloud(), *_random(options.random, options.cards)]
    runs = list(
        compare(problems, chosen, range(options.first_seed, options.first_seed + options.seeds), budget, _remark)
    )
    _say(table(runs, budget))
    _say("\n* not all runs made so many evaluations in twice the seconds")
    _say(f"\nall problems together, less tabu at {budget.seconds:g} CPU s:")
    _say("\n".join(better(runs, budget)))
    _say(f"\n{_bounds(runs)}")
    caption = f"cloud-32 with LLaMA-30B; means and 95 % bands over {options.seeds} seeds"
    _keep(runs, budget, caption, options.to, "search-methods")


def _starts(options: argparse.Namespace) -> None:
    from harness.bench._search_runs import Budget, search
    from harness.bench._search_table import table
    from thunderserve.scheduler.methods.climbs import Tabu
    from thunderserve.scheduler.moves import SPLIT

    budget = Budget(options.seconds, options.evaluations, patience=1.0)
    runs = []
    for name, problem in _cloud():
        search(case_of(name, problem, SPLIT), "", Tabu(), 0, Budget(0.05, 5))
        for seed in range(options.start_seeds):
            for init, label in (("cluster", "clustered start"), ("random", "random start")):
                runs.append(search(case_of(name, problem, SPLIT), label, Tabu(), seed, budget, init=init))
        _remark(f"starts on {name} done")
    for share in (0.1, 0.25, 1.0):
        part = Budget(share * budget.seconds, int(share * budget.evaluations))
        _say("\n" + table(runs, part, "clustered start"))
    caption = f"LLaMA-30B on cloud-32, tabu search; means and 95 % bands over {options.start_seeds} seeds"
    _keep(runs, budget, caption, options.to, "search-starts")


def _truth(options: argparse.Namespace) -> None:
    from harness.bench._search_truth import summary, trials

    began_s = time.process_time()
    low, high = options.devices
    done = list(trials(options.clusters, (low, high), options.limit_s, _remark, options.first_seed))
    _say("\ntabu search against all solutions of small random clusters\n" + summary(done))
    _remark(f"{time.process_time() - began_s:.0f} CPU s")


def _cloud() -> list[tuple[str, Problem]]:
    return [(f"cloud-32 {name}, {rate_per_s:g} requests/s", cloud(name)) for name, rate_per_s in RATES_PER_S.items()]


def _random(count: int, cards: int) -> list[tuple[str, Problem]]:
    from thunderserve.scheduler.moves import SPLIT

    cases = (random_case(cards, seed, SPLIT, 50) for seed in range(20 * count))
    found = [case for case in cases if case is not None][:count]
    return [(f"{case.name}, {case.problem.rate_per_s:.3g} requests/s", case.problem) for case in found]


def _bounds(runs: Sequence[Run]) -> str:
    """The gap of the best run to the upper bound, on cloud-32."""
    from thunderserve.scheduler.bound import upper_bound
    from thunderserve.scheduler.moves import SPLIT

    lines = []
    for name, problem in _cloud():
        bound = upper_bound(case_of(name, problem, SPLIT).lower)
        best = max(one.attainment[-1] for one in runs if one.problem == name)
        lines.append(
            f"{name}: best of all runs {best:.4f}, upper bound {bound.attainment:.4f}, gap {1 - best / bound.attainment:.2%}; "
            f"all cards could carry {bound.capacity_per_s:.3g} requests/s"
        )
    return "\n".join(lines)


def _keep(runs: Sequence[Run], budget: Budget, caption: str, folder: Path | None, name: str) -> None:
    if folder is None:
        return
    from harness.bench._search_figures import draw

    paths = draw(runs, budget, caption, folder, name)
    path = folder / f"{name}.json"
    path.write_text(json.dumps([one.row() for one in runs]), encoding="utf-8")
    _remark("written: " + ", ".join(map(str, [*paths, path])))


def _weights(weights: tuple[float, ...] | None) -> str:
    from thunderserve.scheduler.methods.traits import NAMES

    return ", ".join(f"{name} {weight:+.2f}" for name, weight in zip(NAMES, weights or (), strict=False))


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _remark(text: str) -> None:
    sys.stderr.write(text + "\n")
