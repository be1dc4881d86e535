"""What the serving engine itself takes: scheduling, input preparation and sampling on the CPU, gaps between kernels.

The kernels' times were fitted alone; these constants explain what whole steps take beyond them. They belong to an engine and
its host, not to a GPU. ``harness bench cost`` prints the errors.
"""

from __future__ import annotations

from pydantic import Field

from thunderserve.spec.noun import Noun
from thunderserve.spec.units import Seconds


class Engine(Noun):
    """Overheads of one engine."""

    step_s: Seconds
    """A step of a stage, whatever it holds."""
    layer_s: Seconds = 0.0
    """A layer of a stage in a step: gaps between its kernels."""
    sequence_s: Seconds = 0.0
    """A sequence whose next token is sampled."""
    collective_s: Seconds = 0.0
    """An all-reduce beyond its time on the links, for each card that takes part: launches, and waiting for the last."""
    prompt_s: Seconds = 0.0
    """A prefill chunk: its metadata and what its step prepares."""
    launch_s: Seconds = 0.0
    """CPU time to launch a layer's kernels: an engine without CUDA graphs cannot go faster, the kernels hide behind it."""
    source: str = Field(default="")


ENGINES = {
    "vllm-v1": Engine(
        step_s=3.8e-4,
        sequence_s=1.99e-5,
        source="vLLM 0.19 with CUDA graphs, Llama-3.1-8B on RTX PRO 6000 (LLMServingSim's run): decode-only steps",
    ),
    "distserve": Engine(
        step_s=3.39e-3,
        collective_s=3.65e-6,
        prompt_s=1.99e-3,
        source="DistServe's profiler-a100-80g.distserve.json, OPT-13B, TP 1, 2, 4; OPT-66B held out",
    ),
    "splitwise-a100": Engine(
        step_s=1.22e-2,
        launch_s=4.01e-4,
        prompt_s=7.06e-3,
        source="Splitwise's perf_model.csv (vLLM of 2023, no CUDA graphs), A100 host, Llama-2-70B, TP 2 and 8, "
        "steps of up to 2,048 tokens; TP 4 held out",
    ),
    "splitwise-h100": Engine(
        step_s=8.95e-3,
        collective_s=9.44e-6,
        source="Splitwise's perf_model.csv (vLLM of 2023, no CUDA graphs), H100 host, Llama-2-70B, TP 2 and 8, "
        "steps of up to 2,048 tokens; TP 4 held out",
    ),
}
DEFAULT_ENGINE = ENGINES["vllm-v1"]
"""Engines of today capture CUDA graphs."""
