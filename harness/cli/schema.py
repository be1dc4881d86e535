"""``harness schema``."""

from __future__ import annotations

from typing import Annotated

import typer


def schema(
    kind: Annotated[
        str,
        typer.Argument(help="sweep, gpu, cluster, model, workload, efficiency, question (of configs/plans) or plan."),
    ] = "sweep",
) -> None:
    """Print the JSON Schema of a YAML kind.

    Editors complete and check a file whose first line is ``# yaml-language-server: $schema=PATH``.
    """
    from harness.cli import out
    from harness.sweep import schema as schemas
    from thunderserve.spec.errors import SpecError, nearest

    if kind not in schemas.KINDS:
        raise SpecError("unknown kind", value=kind, remedy=nearest(kind, schemas.KINDS))
    out.as_json(schemas.schema(kind))
