"""Prints what the synchronizer does on real vocabularies: ``python -m tests.vocab.report``.

All pairs of the generative vocabularies of llama-cpp-python's source archive and a spread of
triples write the texts of ``corpus`` together. Takes about a minute; exit status 1 if a rule of
``docs/method.md`` was broken anywhere.
"""

import random
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from cf_local.types import SegmentKind

from .checked_run import Run, fuse, writes_in
from .corpus import TEXTS
from .vocabularies import GENERATIVE

Group = tuple[str, ...]

_N = len(GENERATIVE)
NEIGHBOURS: list[Group] = [(GENERATIVE[i], GENERATIVE[(i + 1) % _N]) for i in range(_N)]
PAIRS: list[Group] = list(combinations(GENERATIVE, 2))
TRIPLES: list[Group] = [
    *((GENERATIVE[i], GENERATIVE[(i + 1) % _N], GENERATIVE[(i + 2) % _N]) for i in range(_N)),
    *random.Random(0).sample(list(combinations(GENERATIVE, 3)), _N),
]


@dataclass
class Figure:
    """What many runs add up to."""

    n_runs: int = 0
    n_segments: int = 0
    n_words: int = 0
    n_forced: int = 0
    violations: list[str] = field(default_factory=list)

    def add(self, run: Run, label: str, wanted: bytes) -> None:
        """Count one run that was to write ``wanted``."""
        self.n_runs += 1
        self.n_segments += len(run.segments)
        self.n_words += run.n_words
        self.n_forced += run.n_forced
        self.violations += [f"{label}: {v}" for v in (*run.violations, *_flaws(run, wanted))]

    def line(self, label: str) -> str:
        """The figure as a line of the report."""
        return (
            f"{label:20} {self.n_runs:6} runs  {self.n_segments:7} segments"
            f"  {self.n_words / self.n_segments:5.2f} words per segment"
            f"  {self.n_forced:5} drafts at the limit  {len(self.violations):3} violations"
        )


def measure(groups: Iterable[Group], segments: SegmentKind, texts: Iterable[str] = TEXTS) -> Figure:
    """Let every group write every text together."""
    figure = Figure()
    for group in groups:
        for key in texts:
            text = TEXTS[key].encode()
            run = fuse(group, lambda _, name, text=text: writes_in(name, text), segments)
            figure.add(run, f"{' + '.join(group)}, {key}, {segments}", text)
    return figure


def _flaws(run: Run, wanted: bytes) -> Iterable[str]:
    if run.text != wanted:
        yield f"wrote {run.text!r} instead of {wanted!r}"
    if run.answer.finish_reason != "stop":
        yield f"finish reason {run.answer.finish_reason}"
    if len(run.segments) > len(wanted) + 1:
        yield f"{len(run.segments)} segments for {len(wanted)} bytes"
    for segment in run.segments:
        if not _is_utf8(segment):
            yield f"a character is cut: {segment!r}"


def _is_utf8(segment: bytes) -> bool:
    try:
        segment.decode()
    except UnicodeDecodeError:
        return False
    return True


def main() -> int:
    """Measure and print."""
    start = time.perf_counter()
    n_bytes = sum(len(text.encode()) for text in TEXTS.values())
    _say(f"{_N} vocabularies, {len(PAIRS)} pairs, {len(TRIPLES)} triples, {len(TEXTS)} texts")
    _say(f"of {n_bytes} bytes: {', '.join(TEXTS)}")
    violations: list[str] = []
    kinds: Sequence[SegmentKind] = ("aligned", "shortest")
    for kind in kinds:
        for label, groups in (("pairs", PAIRS), ("triples", TRIPLES)):
            figure = measure(groups, kind)
            _say(figure.line(f"{label}, {kind}"))
            violations += figure.violations
    _say(f"{time.perf_counter() - start:.0f} s")
    for violation in violations[:10]:
        _say(violation)
    return 1 if violations else 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
