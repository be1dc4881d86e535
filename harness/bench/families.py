"""Which measurements each file of ``configs/efficiency`` is fitted to, and what its reader must know."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """One file: which rows its curves are fitted to, and what a reader must know. Empty card lists are inherited."""

    source: str
    inherits: str = ""
    matmul: tuple[str, ...] = ()
    small: tuple[str, ...] = ()
    decode: tuple[str, ...] = ()
    prefill: tuple[str, ...] = ()
    processors: int = 0
    """Streaming multiprocessors; 0 where the wave of tiles is inherited."""
    tile_rows: int = 64
    """Queries a thread block of FlashAttention takes, by its source: 128 for compute capability 8.0 and 9.0, else 64."""
    l2_bytes: float = 0.0
    """Stated where the L2 cache is so large that kernels find there what the one before them wrote."""
    layers: str = ""
    """Fit the two shares of the matmul curve to HELIX's whole layers of LLaMA-30B on this card."""
    layers_decode: str = ""
    """Fit the memory share of decode attention to them."""


FAMILIES = {
    "ampere-ga100": Family(
        "A100 (A100-40G and A100-80G share it). Projections and small kernels: Vidur, A100-80G, Llama-2-7B, Llama-2-70B, "
        "Llama-3-8B, TP 1, 2, 4 (MIT). Decode attention: Vidur, Frontier (A800) and aiconfigurator; prefill attention: "
        "aiconfigurator (vLLM's FlashAttention 2, Apache-2.0). Held out: CodeLlama-34B, Llama-3-70B, TP 8; of attention "
        "head counts 12, 24, 48. aiconfigurator's own large products are up to 30 % faster (shorter runs, no power limit) and "
        "were not used.",
        matmul=("a100",), small=("a100",), decode=("a100", "a100_sxm"), prefill=("a100_sxm",),
        processors=108, tile_rows=128,
    ),
    "ampere-ga102": Family(
        "A6000, A5000, A10G. Projections: LLMServingSim, A6000, Llama-3.1-8B, TP 1 (MIT); TP 2 held out. Small kernels: "
        "Vidur's A40, the same die. Attention: the curves of ampere-ga100, of prefill in the smaller tiles that the kernels use "
        "here, on 84 processors; LLMServingSim's A6000 attention was not used. No measurement of A5000 and A10G exists: these "
        "are the family's curves on their own peaks.",
        inherits="ampere-ga100", matmul=("a6000",), small=("a40",), processors=84,
    ),
    "a40": Family(
        "A40. Projections and small kernels: Vidur, Llama-2-7B, TP 1 to 8 (MIT); Llama-2-70B held out. Attention as the family.",
        inherits="ampere-ga102", matmul=("a40",), small=("a40",),
    ),
    "hopper-gh100": Family(
        "H100 and H200 (no H200 measurement was used). Projections and small kernels: Vidur, H100, Llama-2-7B, TP 1 to 8 "
        "(MIT); Llama-2-70B held out. Attention: aiconfigurator, vLLM 0.24 with FlashAttention 3 (Apache-2.0).",
        matmul=("h100",), small=("h100",), decode=("h100_sxm",), prefill=("h100_sxm",),
        processors=132, tile_rows=128,
    ),
    "ada-ad102": Family(
        "L40S. Projections and attention: aiconfigurator, vLLM 0.24 (Apache-2.0), matrices larger than the L2 cache; every "
        "third matrix held out. Small kernels: LLMServingSim's RTX 4090, the same die.",
        matmul=("l40s",), small=("rtx4090",), decode=("l40s",), prefill=("l40s",), processors=142, l2_bytes=96e6,
    ),
    "4090": Family(
        "RTX 4090. LLMServingSim's profile of Llama-3.1-8B (MIT).",
        inherits="ada-ad102", matmul=("rtx4090",), decode=("rtx4090",), prefill=("rtx4090",), processors=128, l2_bytes=72e6,
    ),
    "ada-ad104": Family(
        "L4. The two shares of the projections: HELIX's layer times of LLaMA-30B (Apache-2.0), which include attention; "
        "Llama-2-70B held out. The low compute share is the card's 72 W. All else as L40S.",
        inherits="ada-ad102", layers="L4", processors=58, l2_bytes=48e6,
    ),
    "volta-gv100": Family(
        "V100. Projections: APEX+, V100-PCIe (MIT), matrices of 4 million values or more; every third held out. The memory "
        "share of decode attention: four layer times of LLaMA-30B quoted from HELIX (Apache-2.0). All else taken over from "
        "ampere-ga100, not measured.",
        inherits="ampere-ga100", matmul=("v100",), layers_decode="V100", processors=80,
    ),
    "turing-tu104": Family(
        "T4. The two shares of the projections: six layer times of LLaMA-30B quoted from HELIX (Apache-2.0). The low compute "
        "share is the card's 70 W. All else as A100, not measured.",
        inherits="ampere-ga100", layers="T4", processors=40,
    ),
    "blackwell-gb202": Family(
        "RTX PRO 6000. LLMServingSim's profile of Llama-3.1-8B, TP 1 (MIT); TP 2 held out.",
        matmul=("rtxpro6000",), small=("rtxpro6000",), decode=("rtxpro6000",), prefill=("rtxpro6000",),
        processors=188, l2_bytes=128e6,
    ),
}  # fmt: skip
