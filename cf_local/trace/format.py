"""An answer and its steps as JSON lines: what ``ask --json`` prints and what a trace file holds.

Anybody may have written or truncated the file that is read. A wrong file is refused, with the line;
unknown fields and types of lines are ignored. A last line without its end is what a killed process
leaves, and is dropped.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, BinaryIO, get_args

from cf_local.errors import InputError
from cf_local.files import check_replaceable, write_result
from cf_local.structured.tools import Tool, ToolCall, ToolForm
from cf_local.trace.fields import Fields, clean
from cf_local.trace.recording import Heading, Trace, TracedSource
from cf_local.types import (
    MODES,
    Answer,
    Chat,
    FinishReason,
    Infill,
    Message,
    Prompt,
    RawText,
    ScoredCandidate,
    SourceInfo,
    Step,
    Tokens,
)

FORMAT = 1
"""Increases when an older reader would misunderstand a file; new fields alone do not raise it."""
_TRACE_STARTS = b'{"type":'
_MOST_BYTES = 256 * 2**20
_DEEPEST = 8  # nesting of objects and lists in the settings
_DEEPEST_SCHEMA = 256  # and in the parameters of a tool
_FINISH_REASONS: tuple[str, ...] = get_args(FinishReason)
_TOOL_FORMS: tuple[str, ...] = get_args(ToolForm)


def lines(trace: Trace) -> Iterator[str]:
    """The lines of a trace, without line breaks."""
    mode = trace.answer.mode if trace.answer is not None else None
    if trace.heading is not None:
        mode = trace.heading.settings.get("mode", mode)
        yield _line(_heading_record(trace.heading, trace.sources))
    for step in trace.steps:
        yield step_line(step, mode)
    if trace.answer is not None:
        yield answer_line(trace.answer, trace.sources)


def step_line(step: Step, mode: str | None) -> str:
    """One line for a step; in mode "cool+r" the choice among whole answers is of type "rerank"."""
    return _line(
        {
            "type": "rerank" if step.whole and mode == "cool+r" else "step",
            "text": step.text,
            "ends": step.ends,
            "winners": step.winners,
            "candidates": [_candidate_record(candidate) for candidate in step.candidates],
            "passes": step.passes,
            "elapsed_s": step.elapsed_s,
            "timings_s": step.timings_s,
            "winner": step.winner,
            "whole": step.whole,
            "asked": step.asked,
        }
    )


def answer_line(answer: Answer, sources: Sequence[TracedSource], *, thinking: str = "") -> str:
    """The last line of an answer, with the ``sources`` that took part.

    ``thinking`` is what was written before the answer, if it is not in its text.
    """
    return _line(
        {
            "type": "answer",
            **({"thinking": thinking} if thinking else {}),
            "text": answer.text,
            "finish_reason": answer.finish_reason,
            "mode": answer.mode,
            "chosen": answer.chosen,
            "passes": answer.passes,
            "elapsed_s": answer.elapsed_s,
            "sources": [
                {"name": s.name, "file": s.file, "sha256": s.sha256}
                for s in sources
                if s.name in answer.passes  # those that took part
            ],
            "prompt_s": answer.prompt_s,
            "prompt_tokens": answer.prompt_tokens,
            "decode_s": answer.decode_s,
            **({"notices": answer.notices} if answer.notices else {}),
        }
    )


def _heading_record(heading: Heading, sources: Sequence[TracedSource]) -> dict[str, Any]:
    return {
        "type": "trace",
        "format": FORMAT,
        "date": heading.date,
        "versions": heading.versions,
        "prompt": _prompt_record(heading.prompt),
        "settings": heading.settings,
        "sources": [asdict(source) for source in sources],
    }


def _prompt_record(prompt: Prompt) -> dict[str, Any]:
    if isinstance(prompt, Chat):
        record: dict[str, Any] = {"messages": [_turn_record(turn) for turn in prompt.messages]}
        if prompt.tools:
            record["tools"] = [asdict(tool) for tool in prompt.tools]
            record["tool_choice"] = prompt.tool_choice
            record["parallel_tool_calls"] = prompt.parallel_tool_calls
        if prompt.tool_form is not None:
            record["tool_form"] = prompt.tool_form
        return record
    if isinstance(prompt, Infill):
        return {"text": prompt.prefix, "suffix": prompt.suffix}
    return {"tokens": list(prompt.ids)} if isinstance(prompt, Tokens) else {"text": prompt.text}


def _turn_record(turn: Message) -> dict[str, Any]:
    """A turn; what belongs to tools only where it has any."""
    return {
        key: value for key, value in asdict(turn).items() if value or not key.startswith("tool")
    }


def _candidate_record(candidate: ScoredCandidate) -> dict[str, Any]:
    return {
        "text": candidate.text,
        "ends": candidate.ends,
        "sources": candidate.sources,
        "scores": {name: _number(score) for name, score in candidate.scores.items()},
        "mean": None if candidate.mean is None else _number(candidate.mean),
    }


def _number(value: float) -> float | None:
    """JSON has no infinity: the score of an impossible candidate is null."""
    return value if math.isfinite(value) else None


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False)


def write(path: Path, traces: Sequence[Trace]) -> None:
    """Write the traces into one file. Raises InputError if it cannot be written."""
    write_result(path, "".join(f"{line}\n" for trace in traces for line in lines(trace)))


def check_place(path: Path) -> None:
    """Check before the work that a trace can be written to ``path``.

    Raises InputError if its folder does not exist, or a file that is not a trace does: a mistyped
    name costs nothing.
    """
    check_replaceable(path, lambda head: head.startswith(_TRACE_STARTS), "a trace")


def read(path: Path) -> tuple[Trace, ...]:
    """The answers in a trace file or in the output of ``ask --json``; at least one.

    Raises InputError that names the file and the line.
    """
    try:
        with path.open("rb") as file:
            return read_from(file, str(path))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error


def read_from(file: BinaryIO, name: str) -> tuple[Trace, ...]:
    """The same from an open file; errors call it ``name``."""
    raw = file.read(_MOST_BYTES + 1)
    if len(raw) > _MOST_BYTES:
        raise InputError(f"{name} is larger than {_MOST_BYTES // 2**20} MiB; this is not a trace.")
    gathered: list[_Gathered] = []
    for fields in _records(raw, name):
        _add(gathered, fields)
    if not gathered:
        raise InputError(f"{name} is not a trace: no line is a step or an answer.")
    return tuple(one.trace() for one in gathered)


class _Gathered:
    """The lines of one answer so far."""

    def __init__(self) -> None:
        self.heading: Heading | None = None
        self.sources: tuple[TracedSource, ...] = ()
        self.steps: list[Step] = []
        self.answer: Answer | None = None

    def trace(self) -> Trace:
        names = dict.fromkeys(name for step in self.steps for name in step.passes)
        sources = self.sources or tuple(TracedSource(name, "") for name in names)
        answer = self.answer
        if answer is not None:  # the heading describes the sources
            infos = [SourceInfo(s.name, s.file, s.n_ctx or 0, s.n_threads or 0) for s in sources]
            took_part = tuple(info for info in infos if info.name in answer.passes)
            answer = replace(answer, sources=took_part)
        return Trace(self.heading, sources, tuple(self.steps), answer)


def _add(gathered: list[_Gathered], fields: Fields) -> None:
    """Add a line to the answer it belongs to; ignore lines of unknown types."""
    kind = fields.values.get("type")
    if kind not in ("trace", "step", "rerank", "answer"):
        return
    if kind == "trace" or not gathered or gathered[-1].answer is not None:
        gathered.append(_Gathered())
    one = gathered[-1]
    if kind == "trace":
        one.heading, one.sources = _heading(fields), tuple(map(_source, fields.each("sources")))
    elif kind == "answer":
        one.answer = _answer(fields)
        one.sources = one.sources or tuple(map(_source, fields.each("sources")))
    else:
        one.steps.append(_step(fields))


def _records(raw: bytes, name: str) -> Iterator[Fields]:
    """The objects of all lines that are not blank."""
    # Only at line feeds: JSON allows U+2028 within a string.
    lines = raw.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            yield Fields(_parsed(line, where), where)
        except InputError:
            if number == len(lines) > 1:
                return
            raise


def _parsed(line: bytes, where: str) -> object:
    try:
        return json.loads(line.decode())
    except UnicodeDecodeError:
        raise InputError(f"{where}: this is not UTF-8 text.") from None
    except RecursionError:
        raise InputError(f"{where}: this is nested too deeply.") from None
    except ValueError as error:  # not JSON, or a number with thousands of digits
        problem = getattr(error, "msg", "a number is too long")
        raise InputError(f"{where}: this is not JSON: {problem}.") from None


def _heading(fields: Fields) -> Heading:
    return Heading(
        date=fields.text("date", ""),
        versions={clean(k): clean(v) for k, v in fields.inner("versions").values.items()
                  if isinstance(v, str)},
        prompt=_prompt(fields.inner("prompt")),
        settings=_clean(fields.inner("settings").values, fields.where),
    )  # fmt: skip


def _prompt(fields: Fields) -> Prompt:
    if "suffix" in fields.values:
        return Infill(fields.text("text"), fields.text("suffix"))
    if "text" in fields.values:
        return RawText(fields.text("text"))
    if isinstance(ids := fields.values.get("tokens"), list):
        return Tokens(tuple(token for token in ids if isinstance(token, int)))
    if "messages" not in fields.values:
        return Chat(())
    form = fields.values.get("tool_form")
    return Chat(
        tuple(map(_turn, fields.each("messages"))),
        tools=tuple(map(_tool, fields.each("tools", []))),
        tool_choice=fields.text("tool_choice", "auto"),
        parallel_tool_calls=fields.flag("parallel_tool_calls", True),
        tool_form=None if form is None else fields.choice("tool_form", _TOOL_FORMS),
    )


def _turn(fields: Fields) -> Message:
    calls = (
        ToolCall(call.text("name"), call.text("arguments"), call.text("id", ""))
        for call in fields.each("tool_calls", [])
    )
    return Message(
        fields.text("role"), fields.text("content"), tuple(calls), fields.text("tool_call_id", "")
    )


def _tool(fields: Fields) -> Tool:
    parameters = _clean(fields.inner("parameters").values, fields.where, _DEEPEST - _DEEPEST_SCHEMA)
    name, description = fields.text("name"), fields.text("description", "")
    return Tool(name, description, parameters, strict=fields.flag("strict", False))


def _source(fields: Fields) -> TracedSource:
    digest = fields.values.get("sha256")
    return TracedSource(
        name=fields.text("name"),
        file=fields.text("file", ""),
        sha256=clean(digest) if isinstance(digest, str) else None,
        size_bytes=fields.count("size_bytes", None),
        n_ctx=fields.count("n_ctx", None),
        n_threads=fields.count("n_threads", None),
        weight=fields.amount("weight", None),
    )


def _step(fields: Fields) -> Step:
    candidates = tuple(map(_candidate, fields.each("candidates")))
    return Step(
        text=fields.text("text"),
        ends=fields.flag("ends"),
        winner=_winner(fields, candidates),
        candidates=candidates,
        passes=_counts(fields.inner("passes")),
        timings_s=_timings(fields),
        whole=fields.flag("whole", fields.values["type"] == "rerank"),
        asked=fields.names("asked", []),
    )


def _winner(fields: Fields, candidates: tuple[ScoredCandidate, ...]) -> int:
    """The winner's index; without one, the candidate whose sources are the winners."""
    if "winner" in fields.values:
        winner = fields.count("winner")
        if winner < len(candidates):
            return winner
        raise InputError(f"{fields.where}: winner is {winner} of {len(candidates)} candidates.")
    winners = fields.names("winners")
    for index, candidate in enumerate(candidates):
        if candidate.sources == winners:
            return index
    raise InputError(f"{fields.where}: no candidate has the winners as its sources.")


def _candidate(fields: Fields) -> ScoredCandidate:
    inner = fields.inner("scores")
    scores = {name: inner.score(name) for name in inner.values}
    mean = fields.score("mean")
    if mean is None and None in scores.values():
        mean = math.inf  # JSON has no infinity
    return ScoredCandidate(
        text=fields.text("text"),
        ends=fields.flag("ends"),
        sources=fields.names("sources"),
        scores={clean(k): math.inf if v is None else v for k, v in scores.items()},
        mean=mean,
    )


def _answer(fields: Fields) -> Answer:
    return Answer(
        text=fields.text("text"),
        finish_reason=fields.choice("finish_reason", _FINISH_REASONS),
        mode=fields.choice("mode", MODES),
        chosen=fields.text("chosen"),
        passes=_counts(fields.inner("passes")),
        prompt_s=fields.amount("prompt_s", 0.0),
        prompt_tokens=_counts(fields.inner("prompt_tokens")),
        elapsed_s=fields.amount("elapsed_s"),
        decode_s=fields.amount("decode_s", 0.0),
        sources=(),
        notices=fields.names("notices", []),
    )


def _timings(fields: Fields) -> Mapping[str, float]:
    inner = fields.inner("timings_s")
    return {clean(key): inner.amount(key) for key in inner.values}


def _counts(fields: Fields) -> Mapping[str, int]:
    return {clean(key): fields.count(key) for key in fields.values}


def _clean(value: Any, where: str, depth: int = 0) -> Any:
    """Plain data without lone surrogates."""
    if depth > _DEEPEST:
        raise InputError(f"{where}: the settings are nested too deeply.")
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(k): _clean(v, where, depth + 1) for k, v in value.items()}
    if isinstance(value, list):
        return [_clean(v, where, depth + 1) for v in value]
    return value
