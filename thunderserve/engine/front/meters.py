"""What the front measures of itself, beside what the engine says, for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from thunderserve.engine.front.choice import Piece
from thunderserve.engine.front.contract import Engine

NAME = "thunderserve_front"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
WAITS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100)
GAPS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class Meters:
    """The front's own numbers. Each front has its own registry: nothing is global."""

    def __init__(self, engine: Engine) -> None:
        self.registry = own = CollectorRegistry()
        self.requests = Counter(f"{NAME}_requests", "HTTP requests that ended.", ["path", "status"], registry=own)
        self.in_flight = Gauge(f"{NAME}_in_flight", "Requests that are being answered.", registry=own)
        self.prompt_tokens = Counter(f"{NAME}_prompt_tokens", "Tokens of prompts that got an answer.", registry=own)
        self.output_tokens = Counter(f"{NAME}_output_tokens", "Tokens told by the engine.", registry=own)
        self.ttft = Histogram(
            f"{NAME}_ttft_seconds", "From the request to its first token.", buckets=WAITS_S, registry=own
        )
        self.tpot = Histogram(
            f"{NAME}_tpot_seconds", "Mean gap between the tokens of a choice.", buckets=GAPS_S, registry=own
        )
        self.e2e = Histogram(
            f"{NAME}_e2e_seconds", "From the request to its last token.", buckets=WAITS_S, registry=own
        )
        self.registry.register(_Engine(engine))

    def page(self) -> bytes:
        """All samples in the text format."""
        return generate_latest(self.registry)


class Stopwatch:
    """Times one request from now on. Latencies of a whole answer are told when it has ended well: one cut off has none."""

    def __init__(self, meters: Meters) -> None:
        self._meters, self._began_s = meters, time.perf_counter()
        self._seen: dict[int, tuple[float, float, int]] = {}
        """Of each choice: its first token, its last so far, and how many there are."""

    def piece(self, piece: Piece) -> None:
        """A token has come."""
        now_s = time.perf_counter()
        if not self._seen:
            self._meters.ttft.observe(now_s - self._began_s)
        first_s, _, count = self._seen.get(piece.choice, (now_s, now_s, 0))
        self._seen[piece.choice] = first_s, now_s, count + 1
        self._meters.output_tokens.inc()

    def ended(self, prompt_tokens: int) -> None:
        """All choices are there."""
        self._meters.prompt_tokens.inc(prompt_tokens)
        self._meters.e2e.observe(max(last_s for _, last_s, _ in self._seen.values()) - self._began_s)
        for first_s, last_s, count in self._seen.values():
            if count > 1:
                self._meters.tpot.observe((last_s - first_s) / (count - 1))


class _Engine(Collector):
    """The samples of the engine, asked for when the page is."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def describe(self) -> list[Metric]:
        """Nothing is known before the engine is asked."""
        return []

    def collect(self) -> Iterator[Metric]:
        """One family a name."""
        families: dict[str, Metric] = {}
        for name, words, kind, labels, value in self._engine.metrics():
            # The family of a counter is named without its suffix, and its samples with it.
            bare = name.removesuffix("_total") if kind == "counter" else name
            family = families.setdefault(bare, Metric(bare, words, kind))
            family.add_sample(f"{bare}_total" if kind == "counter" else name, dict(labels), value)
        yield from families.values()
