"""What the serving engine itself takes: scheduling, input preparation and sampling on the CPU, gaps between kernels."""

from __future__ import annotations

from thunderserve.spec.noun import Noun
from thunderserve.spec.units import Seconds


class Engine(Noun):
    """Overheads of an engine, the same on every GPU. Fitted to whole steps after the kernels were fitted alone."""

    step_s: Seconds
    """A step of a stage, whatever it holds."""
    layer_s: Seconds
    """A layer of a stage in a step: gaps between its kernels."""
    sequence_s: Seconds
    """A sequence whose next token is sampled."""


DEFAULT_ENGINE = Engine(step_s=2e-3, layer_s=20e-6, sequence_s=20e-6)
