"""``harness plan`` and ``harness simulate`` as scripts see them."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.plan.case import Case
from thunderserve.spec.plan import Plan

Harness = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).resolve().parents[3]
SMALL = ["--cluster", "cloud-8-a40-3090ti-40gbit", "--model", "llama-13b", "--workload", "fixed-512-128", "--rate", "6"]
BRIEF = [
    "--option",
    "steps=4",
    "--option",
    "requests=100",
    "--option",
    "judged_requests=200",
    "--requests",
    "400",
    "-q",
]
HEAVY = {"torch", "pandas", "matplotlib", "numba", "scipy", "duckdb"}


def read(out: str) -> Any:
    return json.loads(out)


def test_a_plan_judged_from_its_file_is_what_its_planner_was_told(harness: Harness) -> None:
    code, out, _ = harness("plan", *SMALL, *BRIEF, "--json", "-o", "made/plan.json")
    planned = read(out)
    assert code == 0
    code, out, _ = harness("simulate", "made/plan.json", "--requests", "400", "--json")
    judged = read(out)
    assert code == 0
    same = ("expected", "replicas", "links", "bottleneck", "price_per_hour", "workload_hash", "deployments", "plan")
    assert {name: judged[name] for name in same} == {name: planned[name] for name in same}
    assert 0 < judged["expected"]["joint"]["attainment"] <= 1
    assert planned["search"]["bound"]["attainment"] >= planned["search"]["judged"]["attainment"] - 0.02


def test_options_overrule_the_file(harness: Harness) -> None:
    harness("plan", *SMALL, *BRIEF, "--json", "-o", "plan.json")
    calm = read(harness("simulate", "plan.json", "--requests", "400", "--rate", "0.1", "--json")[1])
    wild = read(harness("simulate", "plan.json", "--requests", "400", "--rate", "60", "--json")[1])
    assert calm["setting"]["rate_per_s"] == 0.1
    assert calm["expected"]["joint"]["attainment"] == 1.0
    assert wild["expected"]["joint"]["attainment"] < 0.5
    strict = read(harness("simulate", "plan.json", "--requests", "400", "--slo", "ttft=1us", "--json")[1])
    assert strict["expected"]["ttft"]["attainment"] == 0.0
    assert "too slow" in strict["bottleneck"]["words"]


def test_a_bare_plan_needs_its_setting(harness: Harness, plan: Plan) -> None:
    Path("bare.json").write_text(plan.model_dump_json())
    code, out, err = harness("simulate", "bare.json")
    assert (code, out) == (2, "")
    assert err == "error: no cluster is given; say for example --cluster cloud-32\n"
    code, out, _ = harness("simulate", "bare.json", *SMALL, "--requests", "300")
    assert code == 0
    assert "by hand · llama-13b" in out
    assert "2x3090Ti" in out


@pytest.mark.parametrize(
    ("model", "words"),
    [("llama-7b", "replica 0 holds 40 layers, but llama-7b has 32"), ("opt-13b", None)],
)
def test_a_plan_for_another_model(harness: Harness, plan: Plan, model: str, words: str | None) -> None:
    Path("bare.json").write_text(plan.model_dump_json())
    code, _, err = harness("simulate", "bare.json", *SMALL, "--model", model, "--requests", "50")
    assert code == (0 if words is None else 2)
    assert words is None or err == f"error: bare.json: plan: {words}\n"


def test_a_plan_that_does_not_fit_names_the_card_and_its_bytes(harness: Harness, plan: Plan) -> None:
    wide = plan.replicas[3].stages[0].model_copy(update={"devices": (6,), "num_layers": 40})
    one = plan.replicas[3].model_copy(update={"stages": (wide,)})
    tight = plan.model_copy(update={"replicas": (*plan.replicas[:3], one)})
    Path("tight.json").write_text(tight.model_dump_json())
    code, out, err = harness("simulate", "tight.json", *SMALL)
    assert (code, out) == (2, "")
    assert err == (
        "error: tight.json: plan: replica 3: device 6 (3090Ti) is 4,181,420,782 bytes short for llama-13b: "
        "23.2 GB usable, 26.0 GB of weights, 1.3 GB of activations and overheads, and one block of KV\n"
    )


def test_the_bytes_that_are_short_by_hand(case: Case) -> None:
    """LLaMA-13B on one card of 24 GiB: 90 % of it may be used; weights, 2 % of that, a context, activations, one block."""
    model, usable = case.model, 0.9 * 24 * 2**30
    weights = 2 * model.num_parameters
    step = 2 * 2048 * (3 * 5120 + 3 * 13824)  # 2,048 tokens: hidden states, and the three matrices of the MLP
    needed = weights + 0.6e9 + 0.02 * usable + step + 8 * 128 * 32000 + 16 * model.kv_bytes_per_token()
    assert round(needed - usable) == pytest.approx(4_181_420_782, abs=1)


def test_other_broken_plans(harness: Harness, plan: Plan) -> None:
    content = json.loads(plan.model_dump_json())
    far = json.loads(json.dumps(content))
    far["replicas"][0]["stages"][0]["devices"] = [0, 99]
    twice = json.loads(json.dumps(content))
    twice["replicas"][0]["stages"][0]["devices"] = [0, 2]
    short = json.loads(json.dumps(content))
    short["flows"][0]["share"] = 0.25
    typo = json.loads(json.dumps(content)) | {"routr": "flows"}
    for broken, words in (
        (far, "plan: replica 0, stage 0 uses device 99, but cloud-8-a40-3090ti-40gbit has 8 devices"),
        (twice, "devices [2] are used twice"),
        (short, "the shares of the flows sum to 0.75, not 1"),
        (typo, "routr: unknown key; did you mean 'router'?"),
    ):
        Path("broken.json").write_text(json.dumps(broken))
        code, _, err = harness("simulate", "broken.json", *SMALL)
        assert code == 2
        assert err.startswith("error: broken.json:")
        assert err.rstrip().endswith(words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cluster", "cloud-33", "--model", "x", "--workload", "y", "--rate", "1"], "did you mean 'cloud-32'?"),
        ([*SMALL, "--system", "thunderserv"], "did you mean 'thunderserve'?"),
        ([*SMALL, "--option", "codek=16bit"], "did you mean 'codec'?"),
        ([*SMALL, "--option", "codec"], "--option: is not of the form key=value"),
        ([*SMALL, "--system", "vllm", "--seconds", "3"], "vllm has no time limit"),
        ([*SMALL, "--slo", "ttft=5"], "write for example"),
        ([*SMALL, "--slo", "ttft=5 s", "--slo-scale", "5"], "give one of the two"),
        ([*SMALL, "--lose", "a"], "is not a list of cards"),
        ([*SMALL, *BRIEF, "--lose", "8"], "cloud-8-a40-3090ti-40gbit has the cards 0 to 7"),
        ([*SMALL, *BRIEF, "--picture", "x.gif"], "end it in one of .pdf, .png, .svg"),
        ([*SMALL, "--system", "vllm", "--explain", "-q"], "vllm does not explain itself"),
        (["nothing"], "unknown plan"),
    ],
)
def test_wrong_options_are_said_in_one_line(harness: Harness, arguments: list[str], words: str) -> None:
    code, _, err = harness("plan", *arguments)
    assert code == 2
    assert words in err
    assert err.count("\n") == 1


def test_other_systems_plan_too(harness: Harness) -> None:
    cluster = ["--cluster", "inhouse-8xa100", "--model", "llama-13b", "--workload", "fixed-512-128", "--rate", "6"]
    code, out, _ = harness("plan", *cluster, "--system", "vllm", "--option", "tp=2", "--requests", "200", "--json")
    found = read(out)
    assert code == 0
    assert found["plan"]["system"] == "vllm"
    assert {row["strategy"] for row in found["deployments"]} == {"TP=2, PP=1"}
    assert found["links"] == []


def test_a_search_shows_where_it_stands(harness: Harness) -> None:
    brief = [word for word in BRIEF if word != "-q"]
    code, _, err = harness("plan", *SMALL, *brief)
    assert code == 0
    assert "steps/s" in err
    assert "gap to the bound" in err


@pytest.mark.parametrize("command", ["plan", "simulate"])
def test_help_imports_nothing_heavy(command: str) -> None:
    probe = (
        "import sys; from harness.cli.main import app\n"
        f"try: app(['{command}', '--help'])\nexcept SystemExit: pass\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "Usage" in done.stdout
    assert not set(ast.literal_eval(done.stderr.splitlines()[-1])) & HEAVY


@pytest.mark.parametrize("name", ["four-types", "three-types"])
def test_the_worked_examples_can_be_asked(name: str) -> None:
    from harness.plan.case import open_case
    from harness.plan.file import read_question

    question, path = read_question(name)
    case = open_case(question, path)
    assert case.model.name == "llama-30b"
    assert len(case.cluster.devices) == 20
    assert all(card < 20 for card in question.lost)
    assert question.description
