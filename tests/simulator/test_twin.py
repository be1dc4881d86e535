from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from scenarios import Scenario, scenarios
from twin import Twin

from thunderserve.simulator.fleet import Fleet

TIMES = {
    "prefill_start_s": "prefill_start",
    "first_token_s": "first_token",
    "transfer_start_s": "transfer_start",
    "transfer_end_s": "transfer_end",
    "finish_s": "finish",
}


def assert_agrees(scenario: Scenario, rtol: float = 1e-9) -> np.ndarray:
    trace = scenario.arrivals, scenario.prompts, scenario.outputs
    outcome = Fleet(scenario.replicas, scenario.routes, scenario.router, scenario.links).run(*trace)
    twin = Twin(scenario.replicas, scenario.routes, scenario.router, scenario.links)
    expected = twin.run(*trace)
    rows = outcome.requests
    assert rows["status"].tolist() == [s.status for s in expected]
    assert rows["preemptions"].tolist() == [s.preemptions for s in expected]
    for row, sequence in zip(rows, expected, strict=True):
        if sequence.route is not None:
            route = outcome.routes[row["route"]]
            assert (route["prefill"], route["decode"]) == (sequence.route.prefill, sequence.route.decode)
    for name, attribute in TIMES.items():
        np.testing.assert_allclose(rows[name], [getattr(s, attribute) for s in expected], rtol=rtol, err_msg=name)
    assert [r.free for r in twin.replicas] == outcome.replicas["free"].tolist() == outcome.replicas["blocks"].tolist()
    return rows


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(scenarios())
def test_agrees_with_the_twin_on_made_fleets(scenario: Scenario) -> None:
    rows = assert_agrees(scenario)
    assert set(rows["status"]) <= {0, 1}
