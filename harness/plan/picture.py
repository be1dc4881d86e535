"""A plan as a picture: nodes with their cards, groups outlined in the colour of their phase, KV flows with the load of links."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import notation
from harness.figures import _style
from harness.plan.judge import LinkLoad, NodePair, Verdict
from harness.plan.layout import (
    IDLE,
    Box,
    Layout,
    Part,
    Stream,
    card_names,
    hops,
    lay_out,
    streams_of,
)
from harness.plan.table import ORDER, price_of, workload_of
from harness.sweep.cells import label
from thunderserve.spec.errors import SpecError
from thunderserve.spec.plan import Phase

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {Phase.PREFILL: "#D55E00", Phase.DECODE: "#0072B2", Phase.BOTH: "#009E73"}
UNUSED, INK, FLOW = "#c9c9c9", "#333333", "#4d4d4d"
ENDINGS = (".pdf", ".png", ".svg")
THINNEST, THICKEST = 0.6, 5.0
"""Points: an arrow of no share, and of all."""
BEND = 0.13
PLACES = (0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74)
"""Where along an arrow its label may stand."""
LABEL = (0.43, 0.19)
"""Inches a label takes."""


def save(verdict: Verdict, path: Path) -> None:
    """Draw into ``path``. Raises SpecError for an unknown ending, or without matplotlib."""
    if path.suffix not in ENDINGS:
        remedy = f"end it in one of {', '.join(ENDINGS)}"
        raise SpecError("is no kind of picture we draw", key="--picture", value=str(path), remedy=remedy)
    try:
        import matplotlib  # noqa: F401  is it there?
    except ImportError:
        remedy = "pip install 'thunderserve[figures]'"
        raise SpecError("pictures need matplotlib", key="--picture", remedy=remedy) from None
    path.parent.mkdir(parents=True, exist_ok=True)
    dated: dict[str, dict[str, Any]] = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}, ".png": {}}
    with _style.paper():
        draw(verdict).savefig(path, metadata=dated[path.suffix])


def draw(verdict: Verdict) -> Figure:
    """The picture, as wide as a page of text."""
    from matplotlib.figure import Figure

    case, plan = verdict.case, verdict.plan
    streams = streams_of(plan, case.cluster, case.model)
    layout = lay_out(plan, case.cluster, streams)
    scale = min(_style.TEXT_IN / layout.width, 1.15)
    head, foot = 0.34, 0.3
    whole, wide = layout.height * scale + head + foot, layout.width * scale / _style.TEXT_IN
    figure = Figure(figsize=(_style.TEXT_IN, whole))
    axes = figure.add_axes(((1 - wide) / 2, foot / whole, wide, layout.height * scale / whole))
    axes.set_xlim(0, layout.width)
    axes.set_ylim(0, layout.height)
    axes.set_axis_off()
    for node in layout.nodes:
        _node(axes, verdict, layout, node)
    for part in layout.parts:
        _outline(axes, verdict, layout, part)
    _pipelines(axes, verdict, layout)
    _cards(axes, verdict, layout)
    _streams(axes, verdict, layout, streams)
    _legend(figure, verdict)
    return figure


def _color(verdict: Verdict, replica: int) -> str:
    return UNUSED if replica == IDLE else COLORS[verdict.plan.replicas[replica].phase]


def _rounded(axes: Axes, box: Box, radius: float, **style: Any) -> None:
    from matplotlib.patches import FancyBboxPatch

    axes.add_patch(
        FancyBboxPatch(
            (box.x + radius, box.y + radius), box.width - 2 * radius, box.height - 2 * radius,
            boxstyle=f"round,pad={radius}", **style,
        )
    )  # fmt: skip


def _node(axes: Axes, verdict: Verdict, layout: Layout, node: str) -> None:
    cluster, box, size = verdict.case.cluster, layout.nodes[node], 6 * layout.shrink
    counts = Counter(device.gpu for device in cluster.devices if device.node == node)
    _rounded(axes, box, 0.06, facecolor="#f6f6f6", edgecolor="#bdbdbd", linewidth=0.6, zorder=1)
    words = " + ".join(f"{count}×{gpu}" for gpu, count in counts.items())
    axes.text(box.x + 0.07, box.y + box.height - 0.045, node, fontsize=size, color="#777777", va="top", zorder=2)
    axes.text(
        box.x + box.width - 0.07,
        box.y + box.height - 0.045,
        words,
        fontsize=size,
        color=INK,
        va="top",
        ha="right",
        zorder=2,
    )


def _outline(axes: Axes, verdict: Verdict, layout: Layout, part: Part) -> None:
    if part.replica != IDLE:
        color = _color(verdict, part.replica)
        _rounded(
            axes, layout.outline(part), 0.04, facecolor=f"{color}22", edgecolor=color, linewidth=1.1, zorder=3,
            gid=f"group-{part.replica}-{part.node}",
        )  # fmt: skip
        box, size = layout.outline(part), 4.8 * layout.shrink
        words = _share(verdict, part.replica)
        axes.text(box.centre[0], box.y - 0.012, words, fontsize=size, color=color, ha="center", va="top", zorder=5)


def _share(verdict: Verdict, replica: int) -> str:
    """The part of all requests that a replica prefills or decodes."""
    load = verdict.replicas[replica]
    return f"{notation_percent(max(load.prefilled, load.decoded))}"


def _cards(axes: Axes, verdict: Verdict, layout: Layout) -> None:
    names = card_names(verdict.plan)
    owner = {card: part.replica for part, cards in layout.parts.items() for card in cards}
    for card, box in layout.cards.items():
        color = _color(verdict, owner[card])
        _rounded(axes, box, 0.025, facecolor=color, edgecolor="none", zorder=4, gid=f"card-{card}")
        axes.text(
            *box.centre, names.get(card, ""), fontsize=5.5 * layout.shrink, color="white", ha="center", va="center_baseline",
            fontweight="bold", zorder=5,
        )  # fmt: skip


def _pipelines(axes: Axes, verdict: Verdict, layout: Layout) -> None:
    """Dashed lines between the parts of a replica that lies on several nodes, in the order of its stages."""
    for number, replica in enumerate(verdict.plan.replicas):
        for a, b in hops(replica, verdict.case.cluster):
            start, end = layout.outline(Part(number, a)), layout.outline(Part(number, b))
            (x, y), (to_x, to_y) = start.exit_towards(*end.centre), end.exit_towards(*start.centre)
            axes.plot(
                [x, to_x],
                [y, to_y],
                color=_color(verdict, number),
                linewidth=1.0,
                linestyle=(0, (2.5, 1.5)),
                zorder=2.5,
            )


def _streams(axes: Axes, verdict: Verdict, layout: Layout, streams: list[Stream]) -> None:
    """Arrows, wider for larger shares; and on the widest of each link what the link bears."""
    widest: dict[NodePair, Stream] = {}
    curves = {stream: _arrow(axes, layout, stream) for stream in streams}
    for stream in streams:
        widest[stream.link] = stream
    taken = [box.grown(-0.02) for box in layout.nodes.values()]
    for link, stream in sorted(widest.items(), key=lambda item: -item[1].share):
        if link in verdict.links:
            taken.append(_label(axes, verdict.links[link], 4.6 * layout.shrink, curves[stream], taken))


def _arrow(axes: Axes, layout: Layout, stream: Stream) -> list[tuple[float, float]]:
    """Draw one; the points along it."""
    from matplotlib.patches import FancyArrowPatch

    source = layout.nodes[stream.source] if isinstance(stream.source, str) else layout.outline(stream.source)
    target = layout.outline(stream.target)
    start = source.exit_towards(*target.centre)
    end = target.grown(0.03).exit_towards(*source.centre)
    width = (THINNEST + (THICKEST - THINNEST) * stream.share) * layout.shrink
    head = f"-|>,head_length={2.6 + width / 3},head_width={1.3 + width / 3}"
    axes.add_patch(
        FancyArrowPatch(
            start, end, connectionstyle=f"arc3,rad={BEND}", arrowstyle=head,
            linewidth=width, color=FLOW, alpha=0.72, shrinkA=0, shrinkB=0, zorder=3.5, mutation_scale=1.0,
            capstyle="butt", joinstyle="miter", gid=f"flow-{stream.link[0]}-{stream.target.replica}",
        )
    )  # fmt: skip
    # The quadratic curve that arc3 draws.
    bent = (
        (start[0] + end[0]) / 2 + BEND * (end[1] - start[1]),
        (start[1] + end[1]) / 2 - BEND * (end[0] - start[0]),
    )
    return [(_along(start[0], bent[0], end[0], part), _along(start[1], bent[1], end[1], part)) for part in PLACES]


def _along(start: float, bent: float, end: float, part: float) -> float:
    """One coordinate of a quadratic curve."""
    return (1 - part) ** 2 * start + 2 * part * (1 - part) * bent + part**2 * end


def _label(axes: Axes, load: LinkLoad, size: float, curve: list[tuple[float, float]], taken: list[Box]) -> Box:
    """Write what a link bears where it covers least; where it stands."""
    boxes = [Box(x - LABEL[0] / 2, y - LABEL[1] / 2, *LABEL) for x, y in curve]
    best = min(boxes, key=lambda box: sum(box.overlap(other) for other in taken))
    words = f"{8e-9 * load.bytes_per_s:.2g} Gbit/s\n{notation_percent(load.busy)} busy"
    axes.text(
        *best.centre, words, fontsize=size, color=INK, ha="center", va="center", linespacing=1.05, zorder=8,
        bbox={"boxstyle": "round,pad=0.16", "facecolor": "white", "edgecolor": "#d0d0d0", "linewidth": 0.35, "alpha": 0.93},
    )  # fmt: skip
    return best


def notation_percent(share: float) -> str:
    """``18 %``; ``<1 %`` for what would round to nothing."""
    return "<1 %" if 0 < share < 0.005 else f"{share * 100:.0f} %"


def _legend(figure: Figure, verdict: Verdict) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    phases = Counter(replica.phase for replica in verdict.plan.replicas)
    words = {Phase.PREFILL: "prefill", Phase.DECODE: "decode", Phase.BOTH: "colocated"}
    handles: list[Any] = [
        Patch(facecolor=COLORS[phase], label=f"{phases[phase]} {words[phase]} replica{'s' * (phases[phase] > 1)}")
        for phase in ORDER
        if phases[phase]
    ]
    used = sum(len(replica.devices) for replica in verdict.plan.replicas)
    if used < len(verdict.case.cluster.devices):
        handles.append(Patch(facecolor=UNUSED, label="unused"))
    if any(flow.prefill != flow.decode for flow in verdict.plan.flows):
        handles.append(Line2D([], [], color=FLOW, linewidth=2.2, alpha=0.72, label="KV cache (width: share of it)"))
    if any(hops(replica, verdict.case.cluster) for replica in verdict.plan.replicas):
        handles.append(Line2D([], [], color=INK, linewidth=1.0, linestyle=(0, (2.5, 1.5)), label="pipeline over nodes"))
    figure.legend(handles=handles, loc="upper center", ncols=len(handles), fontsize=6.5, handlelength=1.5)
    figure.text(0.5, 0.06 / figure.get_size_inches()[1], caption(verdict), ha="center", fontsize=5.3, color="#666666")


def caption(verdict: Verdict) -> str:
    """What a reader must know of the picture, in one line."""
    case = verdict.case
    met = notation.percent(verdict.attainment().value or 0.0)
    return (
        f"{verdict.plan.system} · {case.cluster.name} ({case.setting.catalogue} catalogue) · {case.model.name} · "
        f"{workload_of(case)}, {case.rate_per_s:g} req/s · SLO {label(case.setting.slo)}: {met} % · "
        f"% below a group: of the requests · {price_of(verdict.plan, case.cluster)[0]:.2f} USD/h · simulated"
    )
