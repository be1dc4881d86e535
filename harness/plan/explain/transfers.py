"""What it takes to hand over KV: alpha, beta and bytes of every pair of the plan, at 16 and at 4 bit."""

from __future__ import annotations

from harness.plan.explain.pages import Section, grid
from harness.plan.judge import Verdict
from thunderserve.cost.network import Transfer, kv_transfer
from thunderserve.scheduler.lower import Lower
from thunderserve.spec.kv import INT4, RAW, KvCodec
from thunderserve.spec.plan import Flow

MOST = 24
"""Pairs shown, those with the largest shares."""
COLUMNS = (
    "from → to", "links", "α, ms", "β, Gbit/s", "16 bit, MB", "16 bit, ms", "4 bit, MB", "4 bit, ms on the wire", "+ codec, ms",
)  # fmt: skip


def by_pair(lower: Lower, verdict: Verdict) -> Section:
    """One row a flow between replicas."""
    model, tokens = verdict.case.model, lower.estimator.sample.mean_prompt
    flows = sorted((one for one in verdict.plan.flows if one.prefill != one.decode), key=lambda one: -one.share)
    rows = [_row(verdict, flow, tokens) for flow in flows[:MOST]]
    words = (
        f"A mean prompt has {tokens:.0f} tokens. Its KV over all {model.num_layers} layers is "
        f"{tokens * model.kv_bytes_per_token() / 1e6:.0f} MB at 16 bit ({model.kv_bytes_per_token():,.0f} bytes a token) and "
        f"{tokens * model.kv_bytes_per_token(INT4.bits_per_value) / 1e6:.0f} MB at 4 bit with the ranges of its groups "
        f"({INT4.bits_per_value:g} bits a value). It takes α + bytes / β on idle links, all links of a pair at once; β is what "
        f"the pair's links give together:"
    )
    files = ("thunderserve/scheduler/pairs.py", "thunderserve/cost/network.py", "thunderserve/cost/codec.py")
    return Section("KV transfer by pair", files, (words, grid(COLUMNS, rows)))


def _row(verdict: Verdict, flow: Flow, tokens: float) -> list[str]:
    raw, packed = (_transfer(verdict, flow, codec) for codec in (RAW, INT4))
    links = ", ".join("inside " + a.split("/")[0] if "/" in a else f"{a}→{b}" for a, b in dict.fromkeys(_ends(raw)))
    wire_s = [one.alpha_s + tokens * one.wire_s_per_token for one in (raw, packed)]
    codec_s = tokens * (packed.encode_s_per_token + packed.decode_s_per_token)
    beta = raw.bytes_per_token / raw.wire_s_per_token if raw.wire_s_per_token else 0.0
    return [
        f"{flow.prefill} → {flow.decode}", links, f"{raw.alpha_s * 1e3:.2g}", f"{8e-9 * beta:.3g}",
        f"{tokens * raw.bytes_per_token / 1e6:.0f}", f"{wire_s[0] * 1e3:.0f}",
        f"{tokens * packed.bytes_per_token / 1e6:.0f}", f"{wire_s[1] * 1e3:.0f}", f"{codec_s * 1e3:.1f}",
    ]  # fmt: skip


def _ends(transfer: Transfer) -> list[tuple[str, str]]:
    """Links; those between cards of one node as the node."""
    return [(f"{a.split('/')[0]}/", "") if "/" in a else (a, b) for a, b in transfer.links]


def _transfer(verdict: Verdict, flow: Flow, codec: KvCodec) -> Transfer:
    replicas, case = verdict.plan.replicas, verdict.case
    ends = replicas[flow.prefill], replicas[flow.decode]
    return kv_transfer(case.model, *ends, case.cluster, codec, case.costs.codec_speed(codec))
