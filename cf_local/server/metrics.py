"""The server's figures for Prometheus, in a registry of their own for each server."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Upper bounds of the buckets for durations."""


class Metrics:
    """All metrics of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = self._counter("requests", "Requests by route and status.", "route status")
        self.request_s = self._seconds("request", "From a request to its end.", "route")
        self.errors = self._counter("errors", "Error responses by code.", "code")
        self.answers = self._counter("answers", "Answers by model and how they ended.", "model end")
        self.answer_s = self._seconds("answer", "Writing one answer.", "model")
        self.first_s = self._seconds(
            "first_segment", "From a request to its first segment.", "model"
        )
        self.segments = self._counter("segments", "Segments written.", "model")
        self.tokens = self._counter("tokens", "Tokens as in usage.", "model kind")
        self.loads = self._counter("loads", "Loads of models by outcome.", "outcome")

    def gauge(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        """Add a number that ``value`` returns."""
        Gauge(name, help_text, registry=self._registry).set_function(value)

    def add(self, more: Collector) -> None:
        """Add the figures of another collector, which may take a while to collect them."""
        self._registry.register(more)

    def mean_answer_s(self) -> float | None:
        """The mean seconds of an answer; None before the first."""
        samples = [s for family in self.answer_s.collect() for s in family.samples]
        n, total = (
            sum(s.value for s in samples if s.name.endswith(end)) for end in ("_count", "_sum")
        )
        return total / n if n else None

    def text(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return generate_latest(self)

    def collect(self) -> Iterator[Metric]:
        """All metrics, without the times at which each series began."""
        for family in self._registry.collect():
            family.samples = [s for s in family.samples if not s.name.endswith("_created")]
            yield family

    def _counter(self, name: str, help_text: str, labels: str) -> Counter:
        name = f"cf_local_{name}_total"
        return Counter(name, help_text, labels.split(), registry=self._registry)

    def _seconds(self, name: str, help_text: str, label: str) -> Histogram:
        name = f"cf_local_{name}_seconds"
        return Histogram(name, help_text, (label,), registry=self._registry, buckets=_SECONDS)
