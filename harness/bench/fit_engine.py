"""Fit the overheads of engines to whole steps, with the kernels as they were fitted alone, and print the constants.

    python -m harness.bench.fit_engine

The constants live in ``thunderserve/cost/engine.py``; there are few, and a reader should see them there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

from harness.bench import layers, measurements
from thunderserve.cost.engine import Engine
from thunderserve.cost.step_table import Floats

Measured = Callable[[Path, layers.Engines], pd.DataFrame]

FITS: dict[str, tuple[Measured, str, tuple[str, ...]]] = {
    "vllm-v1": (layers.vllm, "RTXPRO6000", ("step_s", "sequence_s")),
    "distserve": (layers.distserve, "A100-80G", ("step_s", "collective_s", "prompt_s")),
    "splitwise-a100": (layers.splitwise, "A100-80G", ("step_s", "launch_s", "prompt_s")),
    "splitwise-h100": (layers.splitwise, "H100", ("step_s", "collective_s")),
}
"""By engine: what measured it, on which card, and the overheads that those steps can tell apart.

Splitwise's steps at TP 4 and TP 8 take the same time. On the A100 host a launch limit explains that best, on the H100 host
all-reduces whose overhead grows with the cards; a fit that may use both finds the other one zero, or stops in a worse valley.
"""
START = {"step_s": 5e-3, "layer_s": 2e-5, "collective_s": 8e-6, "launch_s": 4e-4, "prompt_s": 3e-3, "sequence_s": 1e-5}


def fit_engine(name: str, root: Path) -> Engine:
    """The overheads that explain the measured steps of ``name`` best, over those that are not held out."""
    measured, gpu, names = FITS[name]
    scale = np.array([START[key] for key in names])
    idle = Engine(step_s=0)

    def engine(values: Floats) -> Engine:
        return Engine.model_validate({"step_s": 0.0} | dict(zip(names, (values * scale).tolist(), strict=True)))

    def residuals(values: Floats) -> Floats:
        engines = dict.fromkeys(FITS, idle) | {name: engine(values)}
        rows = measured(root, engines)
        rows = rows[(rows["gpu"] == gpu) & ~rows["held"] & (rows["operator"] != "step prefill long")]
        out: Floats = np.log(rows["predicted"].to_numpy(float) / rows["seconds"].to_numpy(float))
        return out

    start = np.ones(len(names))
    found = least_squares(
        residuals, start, bounds=(0, 100), loss="soft_l1", f_scale=0.05, diff_step=[0.05] * len(names)
    )
    return engine(found.x)


def main(arguments: list[str]) -> int:  # noqa: ARG001 - takes none
    """Print the constants of all engines."""
    root = measurements.data_folder()
    if root is None:
        sys.stderr.write("no measurements: set THUNDERSERVE_DATA to the folder that holds gpu/\n")
        return 2
    for name in FITS:
        constants = fit_engine(name, root).model_dump(exclude={"source"})
        found = {key: float(f"{value:.3g}") for key, value in constants.items() if value}
        sys.stdout.write(f"{name} {found}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
