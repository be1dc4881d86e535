"""``harness bench soak``: the real engine for a while under load, with clients that leave and workers that are killed.

One prefill and one decode worker serve the small real model over HTTP. Requests come at random times; a fifth of the clients
leave in the middle of their answer or at once; a fifth and two fifths into it a worker is killed (first the one that decodes,
then the one that prefills) and started again. At the end: every request is accounted for by its client and by the coordinator
alike, answers to prompts that were asked before the load are still the same, no KV block is held, memory is flat.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import signal
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.bench._soak_clients import Visit, known, pay, visits
from harness.bench._soak_watch import Look, draw, look, trends

if TYPE_CHECKING:
    import aiohttp

    from thunderserve.engine.launch.launch import Launch
    from thunderserve.engine.launch.service import Service

LOOK_S, TELL_S = 5.0, 30.0
DRAIN_S = 180.0
FLAT_MIB_PER_HOUR = 60.0
"""A slope that is called flat: allocators breathe."""
VICTIMS = ((1 / 5, 1), (2 / 5, 0))
"""When, as a share of the time, and which replica is killed: early, so that its successor lives long enough to be judged."""


@dataclass
class Soak:
    """What happened."""

    visits: list[Visit] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    kills: list[tuple[float, str]] = field(default_factory=list)
    wrong: list[int] = field(default_factory=list)
    """Visits of known prompts whose answer was another."""
    outcomes: dict[str, int] = field(default_factory=dict)
    """As the coordinator counts."""
    reruns: int = 0
    live: int = 0
    held_blocks: dict[int, int] = field(default_factory=dict)

    def faults(self) -> list[str]:
        """What must not be, in words."""
        ends = Counter(visit.ended for visit in self.visits)
        found = [f"{count} requests were lost" for count in [ends.pop("", 0)] if count]
        found += [
            f"{count} requests ended with: {words}"
            for words, count in ends.items()
            if words not in ("finished", "left")
        ]
        if self.wrong:
            found.append(f"{len(self.wrong)} answers to known prompts were others than before the load")
        # One that left at once may have gone before the server had read its request.
        unseen = len(self.visits) - sum(self.outcomes.values())
        fleeting = sum(visit.stays == 0 and visit.ended == "left" for visit in self.visits)
        if not 0 <= unseen <= fleeting or self.outcomes.get("finished", 0) < ends["finished"]:
            found.append(f"the coordinator counts {self.outcomes}, the clients {dict(ends)}")
        if self.live or any(self.held_blocks.values()):
            found.append(f"{self.live} requests live, blocks held: {self.held_blocks}")
        leaks = [one for one in trends(self.looks) if one.minutes > 5 and one.mib_per_hour > FLAT_MIB_PER_HOUR]
        return found + [f"{one.process} (pid {one.pid}) grew by {one.mib_per_hour:.0f} MiB an hour" for one in leaks]


def main(arguments: list[str]) -> int:
    """Soak, print the account, write ``soak.json``, ``soak.csv`` and the figure. 1 if anything is wrong."""
    options = _options(arguments)
    soak = asyncio.run(_soak(options))
    options.to.mkdir(parents=True, exist_ok=True)
    _write(soak, options.to)
    caption = f"{options.model}, {options.rate:g} requests/s for {options.minutes:g} minutes"
    paths = draw(soak.looks, soak.kills, caption, options.to)
    sys.stdout.write("\n".join(account(soak)) + "\n")
    sys.stdout.write(f"written: {', '.join(map(str, paths))}\n")
    return 1 if soak.faults() else 0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="harness bench soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=0.7, help="requests a second")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument(
        "--codec", default="raw", help="of keys and values; only raw ones give the same answer after a kill"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--to", type=Path, default=Path("results/soak"), help="folder")
    options = parser.parse_args(arguments)
    if not 0 < options.minutes <= 24 * 60 or not 0 < options.rate <= 100:
        parser.error("--minutes and --rate are positive, and no more than a day and 100")
    return options


async def _soak(options: argparse.Namespace) -> Soak:
    import aiohttp

    from thunderserve.engine.checkpoint.locate import locate
    from thunderserve.engine.coordinator.settings import Settings
    from thunderserve.engine.launch.launch import Launch
    from thunderserve.engine.launch.plan import Wishes
    from thunderserve.engine.launch.service import Service

    checkpoint = locate(options.model)
    launch = Launch(
        split_plan(Path(checkpoint)), checkpoint, options.to / "logs", name=options.model, wishes=Wishes(codec=options.codec),
        settings=Settings(patience_s=120.0), restart=True,
    )  # fmt: skip
    service, soak = Service(launch, checkpoint), Soak()
    url, _ = await service.start("127.0.0.1", 0)
    connector, none = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=None)
    try:
        async with aiohttp.ClientSession(connector=connector, timeout=none) as session:
            await _under_load(soak, options, session, url, launch)
            await _settle(soak, service)
    finally:
        await service.stop()
    return soak


def split_plan(checkpoint: Path) -> Any:
    """One prefill and one decode worker, one core each."""
    from thunderserve.spec.plan import Plan

    layers = int(json.loads((checkpoint / "config.json").read_text())["num_hidden_layers"])
    replicas = [
        {"stages": [{"devices": [place], "num_layers": layers}], "phase": phase, "batching": {"policy": policy}}
        for place, (phase, policy) in enumerate((("prefill", "saturation"), ("decode", "continuous")))
    ]
    flows = [{"prefill": 0, "decode": 1, "share": 1.0}]
    return Plan.model_validate({"system": "soak", "replicas": replicas, "flows": flows})


async def _under_load(
    soak: Soak, options: argparse.Namespace, session: aiohttp.ClientSession, url: str, launch: Launch
) -> None:
    """Known answers first, undisturbed; then everything at once."""
    import numpy as np

    expected: dict[tuple[int, ...], str] = {}
    for number, visit in enumerate(known()):
        visit.number = number
        await pay(session, url, options.model, visit)
        expected[visit.prompt] = visit.text
        soak.visits.append(visit)
    rng, tasks, zero_s, length_s = np.random.default_rng(options.seed), [], time.monotonic(), 60 * options.minutes
    watching = asyncio.create_task(_watch(soak, launch, zero_s, length_s))
    while (now_s := time.monotonic() - zero_s) < length_s:
        visit = visits(rng)
        visit.number = len(soak.visits)
        soak.visits.append(visit)
        tasks.append(asyncio.create_task(pay(session, url, options.model, visit)))
        await asyncio.sleep(min(float(rng.exponential(1 / options.rate)), max(0.0, length_s - now_s)))
    await asyncio.wait(tasks, timeout=DRAIN_S)
    watching.cancel()
    for task in tasks:
        task.cancel()
    soak.looks += look(launch, time.monotonic() - zero_s)
    soak.wrong = [
        visit.number
        for visit in soak.visits
        if visit.kind == "known" and visit.ended == "finished" and visit.text != expected[visit.prompt]
    ]


async def _watch(soak: Soak, launch: Launch, zero_s: float, length_s: float) -> None:
    """Look, tell, and kill when it is time."""
    victims, told_s = list(VICTIMS), 0.0
    while True:
        now_s = time.monotonic() - zero_s
        soak.looks += look(launch, now_s)
        if victims and now_s > victims[0][0] * length_s:
            _, replica = victims.pop(0)
            os.kill(launch.processes[replica].pid, signal.SIGKILL)
            soak.kills.append((now_s, f"worker {replica}"))
        if now_s - told_s >= TELL_S:
            told_s = now_s
            ends = Counter(visit.ended or "under way" for visit in soak.visits)
            sys.stderr.write(
                f"{now_s / 60:5.1f} min: {len(soak.visits)} requests, {dict(ends)}, kills {len(soak.kills)}\n"
            )
        await asyncio.sleep(LOOK_S)


async def _settle(soak: Soak, service: Service) -> None:
    """Until nothing is under way; then the books."""
    coordinator = service.coordinator
    until_s = time.monotonic() + DRAIN_S
    while time.monotonic() < until_s:
        beats = {peer.replica: peer.beat for peer in coordinator.peers}
        soak.held_blocks = {replica: beat.blocks_used for replica, beat in beats.items() if beat is not None}
        if not coordinator.live and len(soak.held_blocks) == 2 and not any(soak.held_blocks.values()):
            break
        await asyncio.sleep(0.5)
    soak.live, soak.reruns = coordinator.live, coordinator.history.reruns
    soak.outcomes = dict(coordinator.history.outcomes)


def account(soak: Soak) -> list[str]:
    """What happened, as lines."""
    ends = Counter(visit.ended or "lost" for visit in soak.visits)
    tokens = sum(visit.told for visit in soak.visits)
    lines = [
        f"{len(soak.visits)} requests, {tokens} pieces of answers, {len(soak.kills)} workers killed, "
        f"{soak.reruns} attempts begun again",
        f"by their clients: {', '.join(f'{count} {words}' for words, count in ends.most_common())}",
        f"by the coordinator: {', '.join(f'{count} {words}' for words, count in sorted(soak.outcomes.items()))}; "
        f"{soak.live} live",
        f"KV blocks held at the end: {soak.held_blocks}",
        f"answers to known prompts: {sum(visit.kind == 'known' and visit.ended == 'finished' for visit in soak.visits)}, "
        f"{len(soak.wrong)} of them other than undisturbed",
        f"{'process':14} {'minutes':>8} {'MiB at first':>13} {'at last':>8} {'MiB/h':>7}",
    ]
    lines += [
        f"{one.process:14} {one.minutes:8.1f} {one.first_mib:13.0f} {one.last_mib:8.0f} {one.mib_per_hour:7.0f}"
        for one in trends(soak.looks)
    ]
    return lines + ([f"WRONG: {words}" for words in soak.faults()] or ["nothing is wrong"])


def _write(soak: Soak, folder: Path) -> None:
    summary = {
        "outcomes": soak.outcomes, "reruns": soak.reruns, "live": soak.live, "held_blocks": soak.held_blocks, "kills": soak.kills,
        "faults": soak.faults(), "trends": [asdict(one) for one in trends(soak.looks)],
        "clients": dict(Counter(visit.ended or "lost" for visit in soak.visits)),
    }  # fmt: skip
    (folder / "soak.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    with (folder / "soak.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(Look._fields)
        writer.writerows(soak.looks)
