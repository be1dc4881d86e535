"""vLLM's own figures, read from its Prometheus page."""

from __future__ import annotations

import re
from collections.abc import Mapping

LINE = re.compile(r"^(vllm:\w+)(?:\{([^}]*)\})? (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')
EXTERNAL, COMPUTED, CACHED = (
    f"vllm:prompt_tokens_by_source_total.{source}"
    for source in ("external_kv_transfer", "local_compute", "local_cache_hit")
)
KEPT = (
    EXTERNAL, COMPUTED, CACHED, "vllm:prompt_tokens_total", "vllm:generation_tokens_total", "vllm:num_preemptions_total",
    "vllm:request_success_total", "vllm:time_to_first_token_seconds_sum", "vllm:time_to_first_token_seconds_count",
    "vllm:inter_token_latency_seconds_sum", "vllm:inter_token_latency_seconds_count", "vllm:request_queue_time_seconds_sum",
)  # fmt: skip
"""Counters that the backend returns beside its records."""
Figures = Mapping[str, float]


def read(page: str) -> dict[str, float]:
    """Samples by name, summed over labels; of prompt tokens by source, one each; of the cache, its size."""
    found: dict[str, float] = {}
    for name, labels, value in LINE.findall(page):
        named = dict(LABEL.findall(labels))
        if name == "vllm:cache_config_info":
            for key in ("num_gpu_blocks", "block_size"):
                found[key] = float(named.get(key, "nan"))
            continue
        key = f"{name}.{named['source']}" if "source" in named else name
        found[key] = found.get(key, 0.0) + float(value)
    return found


def kept(figures: Figures, before: Figures) -> dict[str, float]:
    """What the counters have grown by since ``before``."""
    return {name: figures[name] - before.get(name, 0.0) for name in KEPT if name in figures}
