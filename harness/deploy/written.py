"""YAML as people write it."""

from __future__ import annotations

import io
from typing import Any

from ruamel.yaml import YAML

WIDTH = 160


def yaml(*documents: dict[str, Any]) -> str:
    """The documents, one after the other."""
    writer = YAML()
    writer.width, writer.default_flow_style = WIDTH, False
    writer.representer.ignore_aliases = lambda _: True  # anchors are for machines
    writer.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO()
    writer.dump_all(documents, stream)
    return stream.getvalue().removeprefix("---\n")
