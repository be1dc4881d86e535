"""One HTML file with all that a sweep found: it opens without a network, prints, and can be archived."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from harness.report import provenance
from harness.report.definitions import definitions
from harness.report.findings import findings
from harness.report.markup import script_data, tag
from harness.report.tables import records, tables

if TYPE_CHECKING:
    from harness.result import SweepResult

HERE = Path(__file__).parent


def write_report(result: SweepResult, figures: Sequence[Path]) -> Path:
    """Write ``report.html`` into the folder of ``result``, with those of ``figures`` that are SVG inside it. Gives its path."""
    page = Template((HERE / "page.html").read_text(encoding="utf-8"))
    text = page.substitute(
        name=html.escape(result.name),
        style=(HERE / "style.css").read_text(encoding="utf-8"),
        script=(HERE / "script.js").read_text(encoding="utf-8"),
        subtitle=html.escape(_subtitle(result)),
        findings="".join(tag("li", sentence) for sentence in findings(result))
        or tag("li", "No cell has finished yet."),
        warnings=provenance.warnings(result),
        figures="".join(_figure(path, result.folder) for path in figures if path.suffix == ".svg"),
        tables=tables(result) if result.cells else "",
        statement=provenance.statement(result),
        definitions=definitions(),
        provenance=provenance.provenance(result),
        data=script_data({"name": result.name, "rows": records(result)}),
    )
    target = result.folder / "report.html"
    draft = target.with_name(".report.html.draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(target)
    return target


def _subtitle(result: SweepResult) -> str:
    def count(name: str) -> str:
        found = list(dict.fromkeys(getattr(cell.axes, name) for cell in result.cells))
        return f"{len(found)} {name.removesuffix('_per_s')}s" if len(found) > 1 else str(found[0]) if found else ""

    axes = ("system", "cluster", "model", "workload", "rate_per_s", "seed")
    shown = [
        text for name in axes if (text := count(name)) and (name not in ("rate_per_s", "seed") or not _single(text))
    ]
    backends = " and ".join(sorted({cell.axes.backend for cell in result.cells}))
    return " · ".join([f"{len(result.cells)} cells", backends, *shown])


def _single(text: str) -> bool:
    """Whether a lone rate or seed, which says nothing without its name."""
    return not text.endswith("s")


def _figure(path: Path, folder: Path) -> str:
    svg = path.read_text(encoding="utf-8")
    svg = svg[svg.index("<svg") :]
    caption_file = path.with_suffix(".txt")
    caption = (
        caption_file.read_text(encoding="utf-8").strip() if caption_file.is_file() else path.stem.replace("_", " ")
    )
    # Ids are made unique a figure, so that two figures on one page never borrow each other's clips.
    svg = re.sub(r'(\bid="|url\(#|xlink:href="#)', lambda found: f"{found.group(1)}{path.stem}-", svg)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(caption)}"', 1)
    near = path.parent.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.parent.as_posix()
    links = " ".join(
        f'<a href="{html.escape(f"{near}/{path.stem}{ending}")}">{ending[1:].upper()}</a>'
        for ending in (".pdf", ".png", ".csv")
    )
    return f"<figure>{svg}<figcaption>{html.escape(caption)} <span class='links'>{links}</span></figcaption></figure>"
