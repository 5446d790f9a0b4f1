"""Counters, gauges and histograms in Prometheus's text format."""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator

SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Upper bounds of the buckets for durations, in seconds."""

Labels = tuple[str, ...]


class Counter:
    """A growing number for each combination of label values."""

    kind = "counter"

    def __init__(self, name: str, help_text: str, *labels: str) -> None:
        self.name, self.help_text, self._labels = name, help_text, labels
        self._values: dict[Labels, float] = {} if labels else {(): 0.0}

    def add(self, *values: str, amount: float = 1.0) -> None:
        """Add ``amount``."""
        self._values[values] = self._values.get(values, 0.0) + amount

    def samples(self) -> Iterator[str]:
        """One line per combination of label values."""
        for values, number in self._values.items():
            yield f"{self.name}{_labelled(self._labels, values)} {_number(number)}"


class Gauge:
    """A number that is read when it is shown."""

    kind = "gauge"

    def __init__(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        self.name, self.help_text, self._value = name, help_text, value

    def samples(self) -> Iterator[str]:
        """One line."""
        yield f"{self.name} {_number(self._value())}"


class Histogram:
    """Counts durations by bucket, for each combination of label values."""

    kind = "histogram"

    def __init__(self, name: str, help_text: str, *labels: str) -> None:
        self.name, self.help_text, self._labels = name, help_text, labels
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}

    def observe(self, seconds: float, *values: str) -> None:
        """Count one duration."""
        counts = self._counts.setdefault(values, [0] * (len(SECONDS) + 1))
        counts[bisect_left(SECONDS, seconds)] += 1
        self._sums[values] = self._sums.get(values, 0.0) + seconds

    def mean(self) -> float | None:
        """The mean duration over all labels, in seconds; None before the first."""
        n = sum(map(sum, self._counts.values()))
        return sum(self._sums.values()) / n if n else None

    def samples(self) -> Iterator[str]:
        """Lines with cumulative buckets, sum and count."""
        for values, counts in self._counts.items():
            total = 0
            for bound, count in zip((*SECONDS, math.inf), counts, strict=True):
                total += count
                labelled = _labelled((*self._labels, "le"), (*values, _number(bound)))
                yield f"{self.name}_bucket{labelled} {total}"
            labelled = _labelled(self._labels, values)
            yield f"{self.name}_sum{labelled} {_number(self._sums[values])}"
            yield f"{self.name}_count{labelled} {total}"


class Metrics:
    """All metrics of the server."""

    def __init__(self) -> None:
        self.requests = Counter(
            "cf_local_requests_total", "Requests by route and status.", "route", "status"
        )
        self.request_s = Histogram(
            "cf_local_request_seconds", "From a request to the end of its response.", "route"
        )
        self.errors = Counter("cf_local_errors_total", "Error responses by code.", "code")
        self.answers = Counter(
            "cf_local_answers_total", "Answers by model and how they ended.", "model", "end"
        )
        self.answer_s = Histogram("cf_local_answer_seconds", "Writing one answer.", "model")
        self.first_s = Histogram(
            "cf_local_first_segment_seconds", "From a request to its first segment.", "model"
        )
        self.segments = Counter("cf_local_segments_total", "Segments written.", "model")
        self.tokens = Counter("cf_local_tokens_total", "Tokens as in usage.", "model", "kind")
        self.loads = Counter("cf_local_loads_total", "Loads of models by outcome.", "outcome")
        self._gauges: list[Gauge] = []

    def gauge(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        """Add a number that ``value`` returns."""
        self._gauges.append(Gauge(name, help_text, value))

    def text(self) -> str:
        """All metrics as text."""
        lines = []
        shown: list[Counter | Gauge | Histogram] = [
            *(m for m in vars(self).values() if isinstance(m, Counter | Histogram)),
            *self._gauges,
        ]
        for metric in shown:
            lines.append(f"# HELP {metric.name} {metric.help_text}")
            lines.append(f"# TYPE {metric.name} {metric.kind}")
            lines += metric.samples()
        return "\n".join(lines) + "\n"


def _labelled(names: Labels, values: Labels) -> str:
    pairs = [f'{n}="{_escaped(v)}"' for n, v in zip(names, values, strict=True)]
    return "{" + ",".join(pairs) + "}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return "+Inf" if value == math.inf else f"{value:.10g}"
