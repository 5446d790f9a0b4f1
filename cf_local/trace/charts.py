"""The figures and charts of an answer as plain data: lengths of bars, labels."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cf_local.trace.recording import Trace, TraceSummary
from cf_local.trace.words import AnswerPiece, in_one_line, letter, winners_of_dispute
from cf_local.types import Step

_N_STYLES = 8  # colours and underlines of the page; then they repeat, with other letters
_WIDTH, _HEIGHT, _MOST_COLUMNS = 720, 44, 90


@dataclass(frozen=True, slots=True)
class Rect:
    """A rectangle of the strip, in the strip's units (720 wide, 44 high)."""

    css: str
    x: float
    y: float
    width: float
    height: float


def strip(
    parts: Sequence[AnswerPiece],
    names: Sequence[str],
) -> tuple[Rect, ...]:
    """Columns from left to right; each stacks the shares of agreement (on top) and of winners."""
    n_columns = min(len(parts), _MOST_COLUMNS)
    if not n_columns:
        return ()
    width = _WIDTH / n_columns
    rects = []
    for column in range(n_columns):
        start, end = (len(parts) * i // n_columns for i in (column, column + 1))
        counts = Counter(css_of(part.step, names) for part in parts[start:end])
        y = 0.0
        for css in sorted(counts):
            height = _HEIGHT * counts[css] / (end - start)
            kind = f"w {css}" if css else "agreed"
            shown = max(width - 1, 0.8 * width)
            rects.append(Rect(kind, round(column * width, 1), round(y, 1), round(shown, 1),
                              round(height, 1)))  # fmt: skip
            y += height
    return tuple(rects)


def style(index: int) -> str:
    """The style of the source at ``index`` (from 0)."""
    return f"w{index % _N_STYLES}"


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a chart; ``share`` is its length (0 to 1), ``value`` the text at its end."""

    label: str
    css: str
    value: str
    share: float


def css_of(step: Step, names: Sequence[str]) -> str:
    """The style of a piece: that of its first winner; empty where there was no dispute."""
    winners = winners_of_dispute(step)
    if set(names) <= set(winners):
        return ""
    indices = [index for index, name in enumerate(names) if name in winners]
    return style(indices[0]) if indices else ""


def facts(trace: Trace, summary: TraceSummary) -> Iterator[tuple[str, str, str]]:
    """The figures in a line above the charts, each with the text before and after it."""
    if len(trace.names) > 1 and any(not step.whole for step in trace.steps):
        share = 100 * summary.n_agreed / summary.n_segments
        yield "", f"{summary.n_segments:,}", "segment" if summary.n_segments == 1 else "segments"
        yield "", f"{share:.0f}%", f"agreed ({summary.n_agreed:,})"
    yield "", f"{summary.n_bytes:,}", "bytes"
    if summary.elapsed_s is not None:
        yield "in", seconds(summary.elapsed_s), ""
    if summary.bytes_per_s:
        yield "", f"{summary.bytes_per_s:,.0f}", "bytes/s"
    if summary.mode is not None:
        yield "mode", summary.mode, ""
    if summary.finish_reason is not None:
        yield "ended by", summary.finish_reason, ""


def strip_label(summary: TraceSummary) -> str:
    """A description of the strip for screen readers."""
    won = ", ".join(f"{in_one_line(name, 40)} {n}" for name, n in summary.wins.items())
    return f"{summary.n_agreed} of {summary.n_segments} segments agreed; disputed ones won: {won}."


def bars(names: Sequence[str], counts: Mapping[str, int]) -> tuple[Bar, ...]:
    """One bar per source, in its colour."""
    largest = max(counts.values(), default=0)
    return tuple(
        Bar(
            f"{letter(names.index(name))} {in_one_line(name, 34)}"
            if name in names
            else in_one_line(name, 34),
            f"w {style(names.index(name))}" if name in names else "time",
            f"{n:,}",
            n / largest if largest else 0.0,
        )
        for name, n in counts.items()
    )


def time_bars(summary: TraceSummary) -> tuple[Bar, ...]:
    """One bar per phase: the prompt first, time outside of all phases last."""
    spent = {"prompt": summary.prompt_s} if summary.prompt_s is not None else {}
    spent |= dict(summary.timings_s)
    rest = (summary.elapsed_s or 0.0) - sum(spent.values())
    if spent and rest > 0:
        spent["between steps"] = rest
    whole = sum(spent.values())
    return tuple(
        Bar(
            in_one_line(name, 34),
            "time",
            f"{seconds(taken_s)} ({100 * taken_s / whole:.0f}%)",
            taken_s / whole,
        )
        for name, taken_s in spent.items()
        if whole
    )


def seconds(elapsed_s: float) -> str:
    """A time (seconds) as text, in the unit that fits."""
    if elapsed_s < 1:
        return f"{1000 * elapsed_s:.1f} ms" if elapsed_s < 0.1 else f"{1000 * elapsed_s:.0f} ms"
    return f"{elapsed_s:.2f} s" if elapsed_s < 100 else f"{elapsed_s:,.0f} s"
