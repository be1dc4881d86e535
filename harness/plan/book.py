"""Writes the generated parts of ``docs/scheduler.md``: ``python -m harness.plan.book [FILE]``.

A part stands between ``<!-- search: NAME -->`` and ``<!-- end -->``, where NAME is a question of ``configs/plans``; its
plan alone between ``<!-- planned: NAME -->`` and the
end; or ``<!-- judged: NAME -->``, a plan file there. The rest of the page is written by hand and kept.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from harness.plan.bottleneck import bottleneck
from harness.plan.case import open_case
from harness.plan.explain import ending, losses, pages, story
from harness.plan.file import Question, read_plan, read_question
from harness.plan.judge import Verdict, judge
from harness.plan.loss import after_loss
from harness.plan.make import Made, build, make
from harness.plan.picture import save
from thunderserve.spec.catalogue import find

PAGE = Path("docs/scheduler.md")
PART = re.compile(r"(<!-- (search|planned|judged): (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
REQUESTS, SEED = 3000, 0


def written(page: str) -> str:
    """The page with all its generated parts made anew."""
    return PART.sub(lambda found: f"{found[1]}\n{PARTS[found[2]](found[3])}\n{found[4]}", page)


def asked(name: str) -> tuple[Question, Made, Verdict]:
    """A question, what its system made, and how that was judged."""
    question, file = read_question(name)
    case = open_case(question, file)
    made = make(case, build(question.system, question.options, None, beside=file.parent), lambda _: None, seed=SEED)
    return question, made, judge(case, made.plan, requests=REQUESTS, seed=SEED)


def search(name: str) -> str:
    """The story of one search; with what happens after the losses that the question names."""
    question, made, verdict = asked(name)
    case = verdict.case
    lost = question.lost
    loss = after_loss(case, made, lost, requests=REQUESTS, seed=SEED) if lost else None
    told = story.tell(made, verdict, loss, seed=SEED)
    last = [device.id for device in case.cluster.devices if device.node == case.cluster.nodes[-1]]
    if lost:  # and beside it, the loss of a whole node
        told.append(losses.lost(verdict, after_loss(case, made, last, requests=REQUESTS, seed=SEED)))
    return pages.markdown(told)


def planned(name: str) -> str:
    """Only the plan that a search found."""
    return _plan(asked(name)[2])


def judged(name: str) -> str:
    """A plan that somebody else made, judged where it says."""
    path = find("plans", name)
    held = read_plan(path)
    return _plan(judge(open_case(held, path), held.plan, requests=REQUESTS, seed=SEED))


def _plan(verdict: Verdict) -> str:
    share = verdict.attainment()
    low, high = share.interval or (0.0, 1.0)
    words = f"In simulation {(share.value or 0) * 100:.1f} % are within the SLO ({low * 100:.1f} to {high * 100:.1f})."
    return pages.markdown([ending.plan(verdict, bottleneck(verdict))]) + f"\n{words}\n"


PARTS = {"search": search, "planned": planned, "judged": judged}


def main(arguments: list[str]) -> None:
    """Rewrite the page in its place, and draw the plans of its searches."""
    path = Path(arguments[0]) if arguments else PAGE
    page = written(path.read_text(encoding="utf-8"))
    path.write_text(page, encoding="utf-8")
    for part in PART.finditer(page):
        if part[2] == "search":
            save(asked(part[3])[2], path.parent / "images" / f"plan-{part[3]}.png")


if __name__ == "__main__":
    main(sys.argv[1:])
