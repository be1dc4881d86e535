"""The little HTML that the report is made of. All text is escaped here and nowhere else."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

Row = tuple[str, str]


class Cell(NamedTuple):
    """What a table shows, what it sorts by, and what a reader sees on pointing at it."""

    text: str
    key: float | str | None = None
    hint: str = ""
    best: bool = False


def tag(name: str, text: str, **attributes: str) -> str:
    """One element with escaped text; ``class_`` stands for class."""
    given = "".join(f' {key.rstrip("_")}="{html.escape(value)}"' for key, value in attributes.items())
    return f"<{name}{given}>{html.escape(text)}</{name}>"


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[Cell]], *, name: str) -> str:
    """A table whose columns sort on a click; numbers right, text left. ``name`` is that of its CSV file."""
    body = [list(row) for row in rows]
    numeric = [
        all(isinstance(row[i].key, int | float) or row[i].key is None for row in body) for i in range(len(heads))
    ]
    top = "".join(
        f'<th scope="col" class="{"n" if right else ""}"><button type="button">{html.escape(head)}</button></th>'
        for head, right in zip(heads, numeric, strict=True)
    )
    lines = "".join(
        f"<tr>{''.join(_cell(cell, right) for cell, right in zip(row, numeric, strict=True))}</tr>" for row in body
    )
    download = f'<button type="button" class="csv" data-name="{html.escape(name)}.csv">CSV</button>'
    return (
        f'<div class="wide"><table class="sortable"><caption>{html.escape(caption)} {download}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _cell(cell: Cell, right: bool) -> str:
    kinds = " ".join(word for word, yes in (("n", right), ("best", cell.best), ("flag", bool(cell.hint))) if yes)
    key = "" if cell.key is None else html.escape(str(cell.key))
    hint = f' title="{html.escape(cell.hint)}"' if cell.hint else ""
    return f'<td class="{kinds}" data-key="{key}"{hint}>{html.escape(cell.text)}</td>'


def script_data(content: Any) -> str:
    """JSON that may stand inside a script element, whatever the strings in it."""
    text = json.dumps(content, allow_nan=False, sort_keys=True, separators=(",", ":"), default=str)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
