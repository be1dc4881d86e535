"""All methods by name, as the comparison runs them."""

from __future__ import annotations

from thunderserve.scheduler.methods.by_optuna import Optuna
from thunderserve.scheduler.methods.climbs import AnnealedTabu, Annealing, MultiStart, Tabu
from thunderserve.scheduler.methods.genetic import Genetic
from thunderserve.scheduler.methods.learned import Learned, Policy, Then
from thunderserve.scheduler.methods.space import Method


def methods(policy: Policy) -> dict[str, Method]:
    """Name -> method. The learned ones follow ``policy``."""
    return {
        "tabu": Tabu(),
        "multi-start": MultiStart(),
        "annealing": Annealing(),
        "genetic": Genetic(),
        "optuna tpe": Optuna("tpe"),
        "optuna random": Optuna("random", batch=24),
        "learned": Learned(policy),
        "annealing + tabu": AnnealedTabu(),
        "genetic + tabu": Then(Genetic(population=8, turns=8)),
        "tabu + genetic": Then(Tabu(turns=15), Genetic()),
        "learned + tabu": Then(Learned(policy, turns=4)),
    }
