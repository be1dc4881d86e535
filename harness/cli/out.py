"""Printing: JSON for scripts, aligned text for people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import typer


def as_json(content: Any) -> None:
    """One JSON document on standard output."""
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False))


def columns(rows: Iterable[Sequence[str]], *, indent: str = "  ") -> None:
    """Rows of text, each column as wide as its widest entry."""
    table = [tuple(row) for row in rows]
    if not table:
        return
    widths = [max(len(row[index]) for row in table) for index in range(len(table[0]))]
    for row in table:
        cells = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
        typer.echo(indent + "  ".join(cells).rstrip())


def warn(words: str) -> None:
    """A line on standard error."""
    typer.echo(f"warning: {words}", err=True)
