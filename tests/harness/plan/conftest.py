"""The command line in a folder of its own, and one small plan for all tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli import main as cli
from harness.plan.case import Case, open_case
from harness.plan.file import Question
from harness.plan.judge import Verdict, judge
from harness.plan.make import Made, build, make
from thunderserve.spec.kv import INT4
from thunderserve.spec.plan import Batching, Flow, Phase, Plan, Replica, Stage
from thunderserve.spec.slo import Slo

Harness = Callable[..., tuple[int, str, str]]


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Harness:
    """``harness("plan", ...)``: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["harness", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return call


@pytest.fixture(scope="session")
def case() -> Case:
    """LLaMA-13B on 4 A40 (cards 0 to 3) and 4 3090Ti."""
    question = Question(
        cluster="cloud-8-a40-3090ti-40gbit",
        model="llama-13b",
        workload="fixed-512-128",
        rate_per_s=6.0,
        slo=Slo(scale=5),
    )
    return open_case(question, Path("test"))


@pytest.fixture(scope="session")
def plan() -> Plan:
    """By hand: two A40 pairs prefill, one of them over a pipeline; the 3090Ti decode in a pair and a pipeline."""
    prefill, decode = Batching(policy="saturation", max_sequences=64), Batching(policy="continuous", max_sequences=128)
    return Plan(
        system="by hand",
        replicas=(
            Replica(stages=(Stage(devices=(0, 1), num_layers=40),), phase=Phase.PREFILL, batching=prefill),
            Replica(
                stages=(Stage(devices=(2,), num_layers=15), Stage(devices=(3,), num_layers=25)),
                phase=Phase.PREFILL,
                batching=prefill,
            ),
            Replica(stages=(Stage(devices=(4, 5), num_layers=40),), phase=Phase.DECODE, batching=decode),
            Replica(
                stages=(Stage(devices=(6,), num_layers=20), Stage(devices=(7,), num_layers=20)),
                phase=Phase.DECODE,
                batching=decode,
            ),
        ),
        flows=(
            Flow(prefill=0, decode=2, share=0.5, codec=INT4),
            Flow(prefill=0, decode=3, share=0.1, codec=INT4),
            Flow(prefill=1, decode=3, share=0.4, codec=INT4),
        ),
    )


@pytest.fixture(scope="session")
def verdict(case: Case, plan: Plan) -> Verdict:
    """The plan by hand, judged."""
    return judge(case, plan, requests=500, seed=0)


@pytest.fixture(scope="session")
def made(case: Case) -> Made:
    """A short search."""
    system = build("thunderserve", {"steps": 6, "requests": 100, "judged_requests": 200}, None)
    return make(case, system, lambda _: None)


@pytest.fixture(scope="session")
def searched(case: Case, made: Made) -> Verdict:
    """The plan that it found, judged."""
    return judge(case, made.plan, requests=400, seed=0)
