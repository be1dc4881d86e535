"""Text and tables, for a terminal and as Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


NUMBER = re.compile(r"-|\.\.\.|[-+<−]?\d[\d.,]*[kMG]?( [a-z%]+)?( \(.*\))?")


@dataclass(frozen=True)
class Grid:
    """A table. Columns of numbers, with or without a unit, are set to the right."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"a row has not the {len(self.columns)} cells of {self.columns}")

    @property
    def numeric(self) -> list[bool]:
        """By column."""
        return [
            bool(self.rows) and all(not row[place] or NUMBER.fullmatch(row[place]) for row in self.rows)
            for place in range(len(self.columns))
        ]


@dataclass(frozen=True)
class Section:
    """A part of the story."""

    title: str
    files: tuple[str, ...]
    """Where the code of this part lies, from the root of the project."""
    blocks: tuple[str | Grid, ...]


def grid(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Grid:
    """A table of these cells."""
    return Grid(tuple(columns), tuple(tuple(row) for row in rows))


def print_pages(sections: Sequence[Section], console: Console) -> None:
    """In a terminal."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    for section in sections:
        console.print(
            f"\n[bold]{escape(section.title)}[/]  [dim]{escape(', '.join(section.files))}[/]", highlight=False
        )
        for block in section.blocks:
            if isinstance(block, str):
                console.print(escape(block), highlight=False, soft_wrap=not console.is_terminal)
                continue
            table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
            for title, right in zip(block.columns, block.numeric, strict=True):
                table.add_column(escape(title), justify="right" if right else "left", overflow="fold")
            for row in block.rows:
                table.add_row(*map(escape, row))
            console.print(table, width=None if console.is_terminal else 160, crop=console.is_terminal)


def markdown(sections: Sequence[Section], *, level: int = 3, root: str = "..") -> str:
    """As Markdown; links to files count from ``root``."""
    parts = []
    for section in sections:
        links = ", ".join(f"[`{file}`]({root}/{file})" for file in section.files)
        parts.append(f"{'#' * level} {section.title}\n\n{links}")
        parts += [block if isinstance(block, str) else _pipes(block) for block in section.blocks]
    return "\n\n".join(parts) + "\n"


def _pipes(block: Grid) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    ruler = ["--:" if right else "---" for right in block.numeric]
    return "\n".join([line(block.columns), line(ruler), *map(line, block.rows)])
