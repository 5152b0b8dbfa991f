"""What a server counts, in the form that Prometheus reads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from lengthwise.serving.engine import Piece

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_FIRST = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)
_BETWEEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5, 5)

# Of what the engine tells: name, what it is, and the attribute of its Stats.
GAUGES = (
    ("requests_running", "texts that are being written", "running"),
    ("requests_waiting", "texts that wait in the queue", "waiting"),
    ("kv_bytes", "bytes of keys and values that running texts hold", "kv_bytes"),
    ("kv_capacity_bytes", "bytes of keys and values that they may hold", "kv_capacity"),
    ("prefix_cache_bytes", "bytes that the prefix cache holds", "cache_bytes"),
    ("prefix_cache_capacity_bytes", "bytes that it may hold", "cache_capacity"),
)
COUNTS = (
    ("prompt_tokens", "tokens of prompts", "prompt_tokens"),
    ("reused_tokens", "tokens of prompts that were not read again", "reused_tokens"),
    ("generated_tokens", "tokens written", "decoded_tokens"),
    ("steps", "forwards that wrote, counted for each text", "steps"),
    ("drafted_tokens", "guesses that were verified", "drafted"),
    ("prefix_cache_queries", "prompts looked up in the prefix cache", "cache_queries"),
    ("prefix_cache_hits", "prompts of which a beginning was found", "cache_hits"),
)
# Those with a label: name, what it is, the label, and the attribute, which counts by it.
LABELLED = (
    ("accepted_tokens", "guesses that were right", "drafter", "accepted"),
    ("texts", "texts that ended", "reason", "reasons"),
)


class _EngineCollector(Collector):
    """Asks the engine when it is asked."""

    def __init__(self, stats: Callable[[], Any]) -> None:
        self._stats = stats

    def describe(self) -> list[Any]:
        return []

    def collect(self) -> Iterator[Any]:
        stats = self._stats()
        for name, what, attribute in GAUGES:
            yield GaugeMetricFamily(f"lengthwise_{name}", what, getattr(stats, attribute))
        for name, what, attribute in COUNTS:
            yield CounterMetricFamily(f"lengthwise_{name}", what, getattr(stats, attribute))
        for name, what, label, attribute in LABELLED:
            family = CounterMetricFamily(f"lengthwise_{name}", what, labels=[label])
            for value, number in sorted(getattr(stats, attribute).items()):
                family.add_metric([value], number)
            yield family


class Metrics:
    """The counters of one server. Outcomes: ok, deadline, cancelled (its client left), failed, and
    the codes of errors."""

    def __init__(self, stats: Callable[[], Any]) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_EngineCollector(stats))
        self._requests = Counter(
            "lengthwise_requests", "calls, by what became of them", ("path", "outcome"),
            registry=self.registry,
        )  # fmt: skip
        self._first = Histogram(
            "lengthwise_time_to_first_token_seconds", "from a call to the first token of a text",
            buckets=_FIRST, registry=self.registry,
        )  # fmt: skip
        self._between = Histogram(
            "lengthwise_inter_token_seconds",
            "from one piece of a text to the next; a piece is one token, or several guessed right",
            buckets=_BETWEEN, registry=self.registry,
        )  # fmt: skip
        self._whole = Histogram(
            "lengthwise_request_seconds", "from a call to the end of a text", buckets=_FIRST,
            registry=self.registry,
        )  # fmt: skip

    def ended(self, path: str, outcome: str) -> None:
        """Counts a call.

        Args:
            path: it asked for.
            outcome: what became of it.
        """
        self._requests.labels(path, outcome).inc()

    def watched(self, told: Callable[[Piece], None], begin: float) -> Callable[[Piece], None]:
        """A listener that measures what passes it.

        Args:
            told: who is told next.
            begin: when the call came, of `time.perf_counter`.
        """
        last: float | None = None

        def tell(piece: Piece) -> None:
            nonlocal last
            now = time.perf_counter()
            if piece.tokens:
                if last is None:
                    self._first.observe(now - begin)
                else:
                    self._between.observe(now - last)
                last = now
            if piece.done is not None:
                self._whole.observe(now - begin)
            told(piece)

        return tell

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)
