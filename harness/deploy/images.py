"""The two images, as Dockerfiles: vLLM's own with this package beside it, and the coordinator."""

from __future__ import annotations

from thunderserve.engine.vllm.guard import TESTED

VLLM = """\
# vLLM as its makers publish it, with the connector of thunderserve. Build it where the wheel of thunderserve is:
#   pip wheel --no-deps -w . PATH_OF_THUNDERSERVE && docker build -f vllm.Dockerfile -t {image} .
FROM vllm/vllm-openai:v{version}
COPY thunderserve-*.whl /wheels/
RUN python3 -m pip install --no-cache-dir --no-deps /wheels/thunderserve-*.whl \\
 && python3 -m pip install --no-cache-dir numba pydantic ray ruamel.yaml zstandard
ENTRYPOINT []
"""
COORDINATOR = """\
# The coordinator needs no GPU:
#   docker build -f coordinator.Dockerfile -t {image} .
FROM python:3.12-slim
COPY thunderserve-*.whl /wheels/
RUN pip install --no-cache-dir "$(echo /wheels/thunderserve-*.whl)[engine]"
"""


def files(image: str, coordinator_image: str) -> dict[str, str]:
    """Path -> content."""
    return {
        "images/vllm.Dockerfile": VLLM.format(image=image, version=TESTED[0]),
        "images/coordinator.Dockerfile": COORDINATOR.format(image=coordinator_image),
    }
