"""Tokens and requests served a second."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.statistics.value import Value

if TYPE_CHECKING:
    from harness.result import View
    from thunderserve.serving.records import Records

UNIT = "tokens/s, requests/s"
DIRECTION = "up"
FORMULA = "tokens (or requests) of finished requests / seconds from 0 to the last finish"
DOC = """throughput_tokens_per_s counts input and output tokens, as papers on heterogeneous serving must be doing to
reach their figures; throughput_output_tokens_per_s counts generated tokens only. Below saturation throughput is
what was offered, not what a system could do."""


def compute(view: View) -> dict[str, Value]:
    """Input and output tokens, output tokens, and requests, over the makespan."""
    records = view.records
    done = records.finished
    if not done.any():
        return dict.fromkeys(
            ("throughput_tokens_per_s", "throughput_output_tokens_per_s", "throughput_requests_per_s"), Value(0.0)
        )
    makespan_s = float(records.finish_s[done].max())
    output = int(records.output_tokens[done].sum())
    return {
        "throughput_tokens_per_s": Value(tokens_per_s(records)),
        "throughput_output_tokens_per_s": Value(output / makespan_s),
        "throughput_requests_per_s": Value(int(done.sum()) / makespan_s),
    }


def tokens_per_s(records: Records) -> float:
    """Input and output tokens over the makespan of records of which some have finished."""
    done = records.finished
    tokens = int(records.prompt_tokens[done].sum()) + int(records.output_tokens[done].sum())
    return tokens / float(records.finish_s[done].max())
