"""What the scheduler's tests share. The folder is on the path: tests are no package."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from planning_problems import make_lower, make_problem

from thunderserve.policy import Problem
from thunderserve.scheduler.lower import Lower
from thunderserve.spec.generate import random_cluster


@pytest.fixture(scope="session")
def cloud() -> Problem:
    """LLaMA-30B on the 32 mixed cards."""
    return make_problem("cloud-32", "llama-30b", 8.0)


@pytest.fixture(scope="session")
def cloud_lower(cloud: Problem) -> Lower:
    return make_lower(cloud)


@pytest.fixture(scope="session")
def tiny() -> Callable[[int, int], Problem]:
    """(devices, seed) -> LLaMA-7B or 13B on a random small cluster, loaded so that not everything is attained."""

    def build(devices: int, seed: int) -> Problem:
        rng = np.random.default_rng((devices, seed))
        cluster = random_cluster(devices, seed, node_sizes=(1, 2, 4))
        model = ("llama-7b", "llama-13b")[int(rng.integers(2))]
        return make_problem(cluster, model, float(devices * rng.uniform(0.3, 1.2)), float(rng.uniform(3, 8)), seed)

    return build
