"""``harness simulate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import plan as options


def simulate(
    plan: Annotated[Path, typer.Argument(help="A plan, as harness plan -o writes it or by hand; JSON or YAML.")],
    cluster: options.Cluster = None,
    model: options.Model = None,
    workload: options.Workload = None,
    rate: options.Rate = None,
    slo_scale: options.Scale = None,
    slo: options.Limit = None,
    catalogue: options.Catalogue = None,
    market: options.Market = None,
    costs: options.Costs = None,
    requests: options.Requests = 3000,
    seed: options.Seed = 0,
    picture: options.Picture = None,
    as_json: options.AsJson = False,
) -> None:
    """Judge any plan, also a hand-written one.

    What the file does not say (where it runs, what it carries) the options say; they overrule the file. A plan that cannot
    run is refused with the reason: which card is short, and by how many bytes.
    """
    from harness.plan import answer

    given = options.given_setting(cluster, model, workload, rate, slo_scale, slo, catalogue, market, costs)
    answer.simulate(plan, given, requests=requests, seed=seed, picture=picture, as_json=as_json)
