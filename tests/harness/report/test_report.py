from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from harness import figures, metrics
from harness.report import write_report
from harness.report.findings import findings
from harness.report.markup import script_data, tag
from harness.result import Failure, SweepResult

Build = Callable[..., SweepResult]


class Page(HTMLParser):
    """Checks that elements nest, and collects what a test asks for."""

    VOID = frozenset({"meta", "link", "br", "path", "use", "rect", "img", "hr", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.tables = 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.addresses += [given[name] or "" for name in ("src", "href", "xlink:href") if name in given]
        self.ids += [given["id"] or ""] if "id" in given else []
        self.tables += tag == "table"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(sweep: SweepResult) -> str:
    pytest.importorskip("seaborn")
    drawn = figures.draw_all(sweep, ["slo_attainment_vs_rate", "throughput"], sweep.folder / "figures")
    return write_report(sweep, drawn).read_text()


def test_elements_nest_and_ids_are_unique(page: str) -> None:
    found = Page(page)
    assert found.open == []
    assert len(found.ids) == len(set(found.ids))
    assert found.tables == 5


def test_it_needs_no_network_and_no_other_file(page: str) -> None:
    outside = [a for a in Page(page).addresses if not a.startswith(("#", "data:", "figures/"))]
    assert outside == []
    text = re.sub(r'xmlns(:\w+)?="[^"]*"|<!DOCTYPE[^>]*>|<rdf:RDF.*?</rdf:RDF>', "", page, flags=re.DOTALL)
    assert "http" not in text
    assert "@import" not in text
    assert "url(//" not in text


def test_figures_are_inside_with_words_for_those_who_cannot_see(page: str) -> None:
    assert page.count('<svg role="img" aria-label="') == 2
    assert "<figcaption>SLO attainment against the offered rate" in page
    for name in re.findall(r'url\(#([^)]+)\)|xlink:href="#([^"]+)"', page):
        assert f'id="{name[0] or name[1]}"' in page


def test_the_data_of_the_page_is_that_of_the_cells(page: str, sweep: SweepResult) -> None:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    rows = json.loads(found.group(1))["rows"]
    assert len(rows) == len(sweep.cells) * 3
    assert rows[0]["metrics"]["slo_attainment"] == pytest.approx(sweep.cells[0].judged[0].metrics["slo_attainment"])


def test_every_metric_is_defined_with_its_formula(page: str) -> None:
    for name in metrics.names():
        assert tag("code", metrics.describe(name).formula) in page
    for word in ("capacity@90", "Goodput", "intended arrival", "requests offered", "undetermined"):
        assert word in page


def test_it_says_what_is_simulated_and_where_it_is_from(page: str) -> None:
    assert "No GPU was used" in page
    assert "0123456789abcdef" in page
    assert "harness run made-up.yaml" in page


def test_findings_name_a_winner_with_numbers(sweep: SweepResult) -> None:
    code, conv = findings(sweep)
    assert code.startswith("azure-code: 90 % of requests stay within SLO x5 with distserve[affinity=low] up to ")
    assert "so distserve[affinity=low] is better." in code
    assert "95 % interval" in conv


def test_a_tie_is_called_one(build: Build) -> None:
    result = build(rates=(0.01, 0.02), seeds=(0,), count=40)
    for sentence in findings(result):
        assert "a tie" in sentence
        assert "no difference can be told at this sample size" in sentence


def test_one_system_alone_is_told_without_a_rival(build: Build) -> None:
    result = build(rates=(1.0,), seeds=(0,), count=40)
    alone = replace(result, cells=tuple(cell for cell in result.cells if cell.axes.system == "vllm"))
    assert re.match(r"azure-code: vllm serves [\d.]+ .* % of requests within SLO x5\.", findings(alone)[0])


def test_failed_cells_and_empty_sweeps_have_a_page_too(sweep: SweepResult, tmp_path: Path) -> None:
    failure = Failure("abc", tmp_path, sweep.cells[0].axes, "ValueError: <no>", "Traceback <here>")
    text = write_report(replace(sweep, folder=tmp_path, cells=(), failed=(failure,)), []).read_text()
    assert Page(text).open == []
    assert "1 cell failed" in text
    assert "Traceback &lt;here&gt;" in text


def test_names_cannot_break_out_of_the_page(sweep: SweepResult, tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script>"
    cells = tuple(replace(cell, axes=replace(cell.axes, system=evil)) for cell in sweep.cells[:3])
    text = write_report(replace(sweep, folder=tmp_path, cells=cells), []).read_text()
    assert evil not in text
    assert json.loads(script_data({"x": evil}))["x"] == evil
