"""What the page of a trace shows, as plain data: segments, figures, bars. No markup."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath, PureWindowsPath
from typing import Any

from cf_local.trace.labels import ENDS, letter
from cf_local.trace.model import Trace
from cf_local.trace.strip import Rect, strip
from cf_local.trace.summary import Summary, summarize
from cf_local.trace.visible import in_one_line, visible
from cf_local.trace.words import Piece, pieces, shown
from cf_local.types import Chat, Message, Step

_N_STYLES = 8  # colours and underlines of the page; further sources begin again, with their letters


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of the answer: what is marked (``body``), with the white space around it.

    ``css`` is empty where all agreed, ``letters`` also where the next piece has the same.
    """

    id: str
    before: str
    body: str
    after: str
    css: str
    letters: str
    label: str
    disputed: bool
    is_empty: bool


@dataclass(frozen=True, slots=True)
class Row:
    """A step with what is said of it in a line."""

    id: str
    number: int
    title: str
    step: Step
    verdict: str
    cost: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a chart; ``share`` is its length (0 to 1), ``value`` the text at its end."""

    label: str
    css: str
    value: str
    share: float


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A source as the legend and the table of files have it."""

    letter: str
    css: str
    name: str
    file: str
    sha256: str
    n_ctx: str
    n_threads: str


@dataclass(frozen=True, slots=True)
class View:
    """One answer as the page shows it."""

    id: str
    question: str
    earlier: tuple[Message, ...]
    names: Sequence[str]
    key: tuple[SourceRow, ...]
    unmarked: str
    remark: str
    segments: tuple[Segment, ...]
    plain: str
    facts: tuple[tuple[str, str, str], ...]
    strip: tuple[Rect, ...]
    strip_label: str
    wins: tuple[Bar, ...]
    passes: tuple[Bar, ...]
    times: tuple[Bar, ...]
    rows: tuple[Row, ...]
    choices: tuple[Row, ...]
    sources: tuple[SourceRow, ...]
    settings: tuple[tuple[str, str], ...]


def view_of(trace: Trace, index: int) -> View:
    """What is shown of the answer at ``index`` of its file (from 0)."""
    prefix = f"a{index + 1}" if index else ""  # the first one's links are short: #s12
    question, earlier = _question(trace)
    summary = summarize(trace)
    sources = tuple(_sources(trace))
    rows = tuple(_row(trace, n, step, prefix) for n, step in enumerate(trace.steps, start=1))
    parts = pieces(trace.steps)
    several = len(trace.names) > 1
    bins = strip(parts, trace.names, css_of) if several and len(parts) > 1 else ()
    return View(
        id=f"answer{index + 1}",
        question=question,
        earlier=earlier,
        names=trace.names,
        key=sources if several else (),
        unmarked="unmarked: all agreed" if several else "",
        remark=_remark(trace),
        segments=tuple(_segments(trace, parts, prefix)),
        plain=visible(trace.text),
        facts=tuple(_facts(trace, summary)),
        strip=bins,
        strip_label=_strip_label(summary),
        wins=_bars(trace.names, summary.wins) if several and bins and summary.n_disputed else (),
        passes=_bars(trace.names, summary.passes),
        times=_time_bars(summary),
        rows=rows,
        choices=tuple(row for row in rows if row.step.whole and len(row.step.candidates) > 1),
        sources=sources,
        settings=tuple(_settings(trace)),
    )


def css_of(winners: Sequence[str], names: Sequence[str]) -> str:
    """The style of a piece: that of its first winner, none where all sources agreed."""
    if set(names) <= set(winners):
        return ""
    indices = [index for index, name in enumerate(names) if name in winners]
    return f"w{indices[0] % _N_STYLES}" if indices else ""


def _question(trace: Trace) -> tuple[str, tuple[Message, ...]]:
    """What was asked last, and the turns before it."""
    if trace.heading is None:
        return "", ()
    prompt = trace.heading.prompt
    if not isinstance(prompt, Chat):
        return prompt.text, ()
    *earlier, last = prompt.messages or (Message("user", ""),)
    return last.content, tuple(earlier)


def _segments(trace: Trace, parts: Sequence[Piece], prefix: str) -> Iterator[Segment]:
    names = trace.names
    for index, part in enumerate(parts):
        step = part.step
        css = css_of(step.winners, names)
        is_last = index + 1 == len(parts)
        goes_on = not is_last and parts[index + 1].step.winners == step.winners
        letters = "".join(letter(i) for i, name in enumerate(names) if name in step.winners)
        yield _segment(step, f"{prefix}s{part.number}", css, "" if goes_on else letters)


def _segment(step: Step, id_: str, css: str, letters: str) -> Segment:
    text = visible(step.text)
    body = text.strip()
    before, after = "", ""
    if body:
        before, _, after = text.partition(body)
    else:
        after = text
    is_disputed = len(step.candidates) > 1
    verdict = f"won by {', '.join(map(visible, step.winners))}" if css else "all agreed"
    return Segment(
        id=id_,
        before=before,
        body=body or in_one_line(text) or (ENDS if step.ends else "∅"),
        after=after,
        css=css,
        letters=letters if css else "",
        label=f"{body or 'white space'}: {verdict}",
        disputed=is_disputed,
        is_empty=not body,
    )


def _row(trace: Trace, n: int, step: Step, prefix: str) -> Row:
    of = " (whole answers)" if step.whole else ""
    return Row(
        id=f"{prefix}s{n}",
        number=n,
        title=f"Step {n} of {len(trace.steps)}{of}",
        step=step,
        verdict=_verdict(step, trace.names),
        cost=_cost(step, trace.names),
    )


def _verdict(step: Step, names: Sequence[str]) -> str:
    winners = ", ".join(in_one_line(name, 40) for name in step.winners)
    if len(step.candidates) > 1:
        return f"won by {winners} among {len(step.candidates)} candidates"
    if len(names) < 2:
        return f"written by {winners} alone"
    return "all agreed" if set(names) <= set(step.winners) else f"by {winners}; nobody else asked"


def _cost(step: Step, names: Sequence[str]) -> str:
    passes = [
        f"{letter(i)}\N{NO-BREAK SPACE}{step.passes[n]}"
        for i, n in enumerate(names)
        if n in step.passes
    ]
    parts = [_time(step.elapsed_s)] if step.timings_s else []
    return " · ".join([*parts, *(["passes " + ", ".join(passes)] if passes else [])])


def _remark(trace: Trace) -> str:
    """What kind of answer this is, and whether it is whole."""
    answer = trace.answer
    if answer is None:
        return "This answer was broken off: what came of it is shown, its end is missing."
    kept = shown(trace.steps)
    chosen = in_one_line(answer.chosen, 40)
    if not trace.steps:
        told = "No steps were recorded."
    elif answer.mode == "single":
        told = f"{chosen} wrote alone."
    elif kept[0].whole:
        told = f"A whole answer was chosen: that of {chosen}."
    elif answer.mode == "cool+r":
        others = [in_one_line(n, 40) for n in trace.steps[-1].winners if n in trace.names]
        told = "The fused answer was chosen over the sources' own."
        if others:
            told = f"The fused answer was chosen; {', '.join(others)} wrote the same."
    else:
        told = "Fused segment by segment."
    endings = {
        "stop": "",
        "length": " It was cut at the length allowed.",
        "repetition": " It was ended because it repeated itself.",
        "cancelled": " It was interrupted.",
    }
    return told + endings[answer.finish_reason]


def _facts(trace: Trace, summary: Summary) -> Iterator[tuple[str, str, str]]:
    """The figures in a line above the charts: each with what stands before and behind it."""
    if len(trace.names) > 1 and any(not step.whole for step in trace.steps):
        share = 100 * summary.n_agreed / summary.n_segments
        yield "", f"{summary.n_segments:,}", "segments"
        yield "", f"{share:.0f}%", f"agreed ({summary.n_agreed:,})"
    yield "", f"{summary.n_bytes:,}", "bytes"
    if summary.elapsed_s is not None:
        yield "in", _time(summary.elapsed_s), ""
    if summary.bytes_per_s is not None:
        yield "", f"{summary.bytes_per_s:,.0f}", "bytes/s"
    if summary.mode is not None:
        yield "mode", summary.mode, ""
    if summary.finish_reason is not None:
        yield "ended by", summary.finish_reason, ""


def _strip_label(summary: Summary) -> str:
    won = ", ".join(f"{in_one_line(name, 40)} {n}" for name, n in summary.wins.items())
    return f"{summary.n_agreed} of {summary.n_segments} segments agreed; disputed ones won: {won}."


def _bars(names: Sequence[str], counts: Mapping[str, int]) -> tuple[Bar, ...]:
    """A bar per source, in its colour."""
    largest = max(counts.values(), default=0)
    return tuple(
        Bar(
            f"{letter(names.index(name))} {in_one_line(name, 34)}"
            if name in names
            else in_one_line(name, 34),
            css_of([name], [*names, ""]) and f"w {css_of([name], [*names, ''])}",
            f"{n:,}",
            n / largest if largest else 0.0,
        )
        for name, n in counts.items()
    )


def _time_bars(summary: Summary) -> tuple[Bar, ...]:
    """A bar per phase, the prompt first and what is in no phase last."""
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
            f"{_time(taken_s)} ({100 * taken_s / whole:.0f}%)",
            taken_s / whole,
        )
        for name, taken_s in spent.items()
        if whole
    )


def _time(elapsed_s: float) -> str:
    if elapsed_s < 1:
        return f"{1000 * elapsed_s:.1f} ms" if elapsed_s < 0.1 else f"{1000 * elapsed_s:.0f} ms"
    return f"{elapsed_s:.2f} s" if elapsed_s < 100 else f"{elapsed_s:,.0f} s"


def _sources(trace: Trace) -> Iterator[SourceRow]:
    for index, source in enumerate(trace.sources):
        yield SourceRow(
            letter=letter(index),
            css=f"w{index % _N_STYLES}",
            name=source.name,
            file=_file_name(source.file),
            sha256=source.sha256 or "unknown",
            n_ctx=str(source.n_ctx or "–"),
            n_threads=str(source.n_threads or "–"),
        )


def _file_name(file: str) -> str:
    """The name without its folders: a page that is passed on tells nobody's user name."""
    return PurePath(PureWindowsPath(file).as_posix()).name


def _settings(trace: Trace) -> Iterator[tuple[str, str]]:
    if trace.heading is None:
        return
    yield "date", trace.heading.date
    yield from trace.heading.versions.items()
    yield from _flat(trace.heading.settings, "")


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            told = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield f"{prefix}{name}", told
