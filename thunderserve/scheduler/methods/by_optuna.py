"""Optuna's samplers on a solution's code: TPE (Bergstra et al., NeurIPS 2011) and random search. Needs the extra `planners`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from thunderserve.scheduler.methods.ledger import Ledger, V
from thunderserve.scheduler.methods.space import Space
from thunderserve.scheduler.tabu import Rng, S


@dataclass(frozen=True)
class Optuna:
    """Asks, scores, tells. Codes without a solution are told as failures, and are not counted."""

    sampler: Literal["tpe", "random"] = "tpe"
    batch: int = 1
    """Codes asked for at once; those that pass the shortlist are scored."""

    def __call__(self, start: S, space: Space[S, V], ledger: Ledger[S, V], rng: Rng) -> None:  # noqa: ARG002
        """See ``Method``. The start is scored, but Optuna does not learn of it: not every solution has a code."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        seed = int(rng.integers(2**31))
        samplers = optuna.samplers
        sampler = samplers.TPESampler(seed=seed) if self.sampler == "tpe" else samplers.RandomSampler(seed=seed)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        axes: dict[str, optuna.distributions.BaseDistribution] = {
            str(place): optuna.distributions.CategoricalDistribution(tuple(range(count)))
            for place, count in enumerate(space.choices)
        }
        while ledger.goes_on():
            trials = [study.ask(axes) for _ in range(self.batch)]
            found = [space.decode([trial.params[name] for name in axes]) for trial in trials]
            chosen = set(space.shortlist(list(dict.fromkeys(one for one in found if one is not None))))
            for trial, one in zip(trials, found, strict=True):
                if one is None or one not in chosen or (ledger.full and one not in ledger.known):
                    study.tell(trial, state=optuna.trial.TrialState.FAIL)
                else:
                    study.tell(trial, ledger.value(one))
