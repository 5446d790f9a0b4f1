"""A trace as one HTML page, which needs no network and, for reading, no JavaScript.

All text of models is made ``visible``, and escaped by the template engine. The page allows only its
own style and script, by their hashes. Template, style and script are files next to this one;
``TraceView`` is what they show, as plain data: segments, figures, bars.
"""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import PurePath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from cf_local.trace.charts import (
    Bar,
    Rect,
    bars,
    css_of,
    facts,
    seconds,
    strip,
    strip_label,
    style,
    time_bars,
)
from cf_local.trace.heat import Column, HotPiece, columns, disagreement, hottest, level, percent
from cf_local.trace.recording import Trace, summarize
from cf_local.trace.words import (
    ENDS,
    FORCED,
    AnswerPiece,
    in_one_line,
    letter,
    listeners,
    not_asked,
    number,
    pieces,
    proposers,
    shown,
    visible,
)
from cf_local.types import Chat, Message, ScoredCandidate, Step, text_of

if TYPE_CHECKING:
    from jinja2 import Environment

_MARK = b'<meta name="generator" content="cf-local trace">'
_MOST_OF_CANDIDATE = 300  # characters of a whole answer in a table; the rest follows below it
_SHORT = 14


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of the answer: the marked text (``body``) and the white space around it.

    ``css`` is empty without a dispute; ``letters`` also if the next piece has the same ones.
    ``heat`` is the level of disagreement (0 to 4).
    """

    id: str
    before: str
    body: str
    after: str
    css: str
    letters: str
    label: str
    disputed: bool
    heat: int
    is_empty: bool


@dataclass(frozen=True, slots=True)
class StepRow:
    """A step with a one-line verdict and its cost."""

    id: str
    number: int
    title: str
    step: Step
    verdict: str
    cost: str


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A source as the legend and the table of files show it."""

    letter: str
    css: str
    name: str
    file: str
    sha256: str
    n_ctx: str
    n_threads: str
    weight: str


@dataclass(frozen=True, slots=True)
class TraceView:
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
    hottest: tuple[HotPiece, ...]
    heat: tuple[Column, ...]
    wins: tuple[Bar, ...]
    passes: tuple[Bar, ...]
    times: tuple[Bar, ...]
    rows: tuple[StepRow, ...]
    choices: tuple[StepRow, ...]
    sources: tuple[SourceRow, ...]
    settings: tuple[tuple[str, str], ...]


def view_of(trace: Trace, index: int) -> TraceView:
    """What the page shows of the answer at ``index`` in its file (from 0)."""
    prefix = f"a{index + 1}" if index else ""  # links into the first answer are short: #s12
    question, earlier = _question(trace)
    summary = summarize(trace)
    sources = tuple(_sources(trace))
    rows = tuple(_row(trace, n, step, prefix) for n, step in enumerate(trace.steps, start=1))
    parts = pieces(trace.steps)
    several = len(trace.names) > 1
    bins = strip(parts, trace.names) if several and len(parts) > 1 else ()
    return TraceView(
        id=f"answer{index + 1}",
        question=question,
        earlier=earlier,
        names=trace.names,
        key=sources if several else (),
        unmarked="unmarked: no dispute" if several else "",
        remark=_remark(trace),
        segments=tuple(_segments(trace, parts, prefix)),
        plain=visible(trace.text),
        facts=tuple(facts(trace, summary)),
        strip=bins,
        strip_label=strip_label(summary),
        hottest=hottest(parts, trace, prefix),
        heat=columns(parts, trace) if several else (),
        wins=bars(trace.names, summary.wins) if several and bins and summary.n_disputed else (),
        passes=bars(trace.names, summary.passes),
        times=time_bars(summary),
        rows=rows,
        choices=tuple(row for row in rows if row.step.whole and len(row.step.candidates) > 1),
        sources=sources,
        settings=tuple(_settings(trace)),
    )


def _question(trace: Trace) -> tuple[str, tuple[Message, ...]]:
    """The last question, and the messages before it."""
    if trace.heading is None:
        return "", ()
    prompt = trace.heading.prompt
    if not isinstance(prompt, Chat):
        return text_of(prompt), ()
    *earlier, last = prompt.messages or (Message("user", ""),)
    return last.content, tuple(earlier)


def _segments(trace: Trace, parts: Sequence[AnswerPiece], prefix: str) -> Iterator[Segment]:
    names = trace.names
    for index, part in enumerate(parts):
        step = part.step
        css = css_of(step, names)
        is_last = index + 1 == len(parts)
        goes_on = not is_last and parts[index + 1].step.winners == step.winners
        letters = _letters(step.winners, names)
        share = disagreement(step, trace)
        yield _segment(step, f"{prefix}s{part.number}", css, "" if goes_on else letters, share)


def _letters(some: Sequence[str], names: Sequence[str]) -> str:
    return "".join(letter(i) for i, name in enumerate(names) if name in some)


def _segment(step: Step, id_: str, css: str, letters: str, share: float) -> Segment:
    text = visible(step.text)
    body = text.strip()
    before, after = "", ""
    if body:
        before, _, after = text.partition(body)
    else:
        after = text
    is_disputed = len(step.candidates) > 1
    verdict = f"won by {', '.join(map(visible, step.winners))}" if css else "no dispute"
    if not step.winners:
        verdict = FORCED
    if share:
        verdict += f", {percent(share)} wanted something else"
    return Segment(
        id=id_,
        before=before,
        body=body or in_one_line(text) or (ENDS if step.ends else "∅"),
        after=after,
        css=css,
        letters=letters if css else "",
        label=f"{body or 'white space'}: {verdict}",
        disputed=is_disputed,
        heat=level(share),
        is_empty=not body,
    )


def _row(trace: Trace, n: int, step: Step, prefix: str) -> StepRow:
    of = " (whole answers)" if step.whole else ""
    return StepRow(
        id=f"{prefix}s{n}",
        number=n,
        title=f"Step {n} of {len(trace.steps)}{of}",
        step=step,
        verdict=_verdict(step, trace.names),
        cost=_cost(step, trace.names),
    )


def _verdict(step: Step, names: Sequence[str]) -> str:
    if not step.winners:
        return FORCED
    winners = _list(step.winners)
    left_out = not_asked(step, names)
    if len(step.candidates) > 1:
        rest = f"; {_list(left_out)} not asked" if left_out else ""
        return f"won by {winners} among {len(step.candidates)} candidates{rest}"
    if len(names) < 2:
        return f"written by {winners} alone"
    if set(names) <= set(step.winners):
        return "all agreed"
    others = listeners(step)
    parts = [f"by {winners}"]
    parts += [f"{_list(others)} proposed nothing else"] if others else []
    parts += ["no other source asked"] if left_out else []
    return "; ".join(parts)


def _list(names: Sequence[str]) -> str:
    return ", ".join(in_one_line(name, 40) for name in names)


def _cost(step: Step, names: Sequence[str]) -> str:
    passes = [
        f"{letter(i)}\N{NO-BREAK SPACE}{step.passes[n]}"
        for i, n in enumerate(names)
        if n in step.passes
    ]
    parts = ["asked " + _letters(step.asked, names)] if step.asked and len(names) > 1 else []
    parts += [seconds(step.elapsed_s)] if step.timings_s else []
    return " · ".join([*parts, *(["passes " + ", ".join(passes)] if passes else [])])


def _remark(trace: Trace) -> str:
    """What kind of answer this is, and whether it is complete."""
    answer = trace.answer
    if answer is None:
        return "This answer was cut off: its end is missing."
    steps = shown(trace.steps)
    chosen = in_one_line(answer.chosen, 40)
    if not trace.steps:
        remark = "No steps were recorded."
    elif answer.mode == "single":
        remark = f"{chosen} wrote alone."
    elif steps[0].whole:
        remark = f"A whole answer was chosen: that of {chosen}."
    elif answer.mode == "cool+r":
        others = [in_one_line(n, 40) for n in trace.steps[-1].winners if n in trace.names]
        remark = "The fused answer was chosen over the sources' own."
        if others:
            remark = f"The fused answer was chosen; {', '.join(others)} wrote the same."
    else:
        remark = "Fused segment by segment."
    endings = {
        "stop": "",
        "length": " It reached the maximum length.",
        "repetition": " It was stopped because it repeated itself.",
        "cancelled": " It was interrupted.",
    }
    if trace.steps and not trace.text:
        remark = "The answer is empty."
    return remark + endings[answer.finish_reason]


def _sources(trace: Trace) -> Iterator[SourceRow]:
    for index, source in enumerate(trace.sources):
        yield SourceRow(
            letter=letter(index),
            css=style(index),
            name=source.name,
            file=_file_name(source.file),
            sha256=source.sha256 or "unknown",
            n_ctx=str(source.n_ctx or "–"),
            n_threads=str(source.n_threads or "–"),
            weight="–" if source.weight is None else f"{source.weight:.2f}",
        )


def _file_name(file: str) -> str:
    """The name without its folders: a page that is passed on reveals no user name."""
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
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield f"{prefix}{name}", text


def is_page(head: bytes) -> bool:
    """Whether a file that starts with these bytes is such a page."""
    return _MARK in head


def render(traces: Sequence[Trace]) -> str:
    """The HTML page of one or more answers."""
    from markupsafe import Markup  # imported here, with jinja2: other commands do not need them

    views = [view_of(trace, index) for index, trace in enumerate(traces)]
    return (
        _environment()
        .from_string(_text("page.html"))
        .render(
            views=views,
            title=_title(views),
            style=Markup(_text("page.css")),  # our own file
            script=Markup(_text("page.js")),
        )
    )


def _environment() -> "Environment":
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "candidate": _candidate,
        "cell": in_one_line,
        "hash": _hash,
        "is_long": _is_long,
        "letter": letter,
        "number": number,
        "proposers": proposers,
        "visible": visible,
    }
    return environment


def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(text: Any) -> str:
    """The name of an inline style or script in a content security policy."""
    digest = hashlib.sha256(str(text).encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _title(views: Sequence[TraceView]) -> str:
    shorten = partial(in_one_line, most=60)
    return shorten(views[0].question) if len(views) == 1 else f"{len(views)} answers"


def _candidate(candidate: ScoredCandidate, is_whole: bool) -> str:
    """The text of a candidate in a table cell."""
    text = in_one_line(candidate.text, _MOST_OF_CANDIDATE if is_whole else None)
    text = text or ("" if candidate.ends else "(nothing)")
    return f"{text}{ENDS}" if candidate.ends else text


def _is_long(step: Step) -> bool:
    """Whether a candidate needs more room than the scores leave it."""
    return any(len(candidate.text) > _SHORT for candidate in step.candidates)
