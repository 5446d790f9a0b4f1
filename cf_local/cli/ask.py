"""``cf-local ask``: one question, one fused answer."""

import math
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import click

from cf_local import trace
from cf_local.chats.database import ChatStore
from cf_local.chats.transcript import ChatTurn, Transcript, state_after
from cf_local.cli.help import LongCommand
from cf_local.cli.hint import hint_at_setup
from cf_local.cli.interrupt import Interrupt
from cf_local.cli.loading import loaded
from cf_local.cli.options import (
    THINK,
    format_of,
    format_options,
    fusion_options,
    model_options,
    ray_options,
    settings_of,
    shows_colour,
)
from cf_local.cli.status import StatusLine
from cf_local.cli.text_input import read_question
from cf_local.cli.winners import Winners, statistics
from cf_local.cli.wrapping import WordWrap
from cf_local.errors import Cancelled, CfLocalError, InputError
from cf_local.method.thinking import AnswerSplitter
from cf_local.runtime.fusion import Fusion
from cf_local.settings import Settings
from cf_local.types import Answer, Chat, Prompt, RawText, Step
from cf_local.types import chat as chat_prompt

_WHY_INCOMPLETE = {
    "length": "it reached --max-tokens or the end of a context before it had its form.",
    "repetition": "it repeated itself before it had its form.",
    "stuck": "no model has a token that the form allows next.",
}
_CUT: Mapping[str, str] = {
    "length": "it reached --max-tokens or the end of a context",
    "repetition": "it repeats itself (--no-repetition-guard allows that)",
}


@click.command(cls=LongCommand)
@click.argument("question", nargs=-1)
@click.option("-f", "--file", metavar="FILE", help="Read the prompt from FILE ('-' for stdin).")
@click.option("--raw", is_flag=True, help="Continue the prompt as it is, without a chat template.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object per step, then the answer."
)
@click.option("--no-stream", is_flag=True, help="Print nothing until the answer is complete.")
@click.option(
    "--trace",
    "trace_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Record in FILE how the answer came about (see `trace`).",
)
@click.option(
    "--continue", "continues", is_flag=True, help="Go on with the last answer that was cut."
)
@click.option(
    "--save/--no-save",
    default=None,
    envvar="CF_LOCAL_SAVE",
    show_envvar=True,
    help="Keep question and answer in the history [only a cut answer is kept, for --continue].",
)
@click.option("--show-winners", is_flag=True, help="Mark which source won which words.")
@THINK
@click.option("--stats", is_flag=True, help="Print speed, agreement and wins to stderr.")
@format_options
@fusion_options
@model_options
@ray_options
def ask(
    question: tuple[str, ...],
    file: str | None,
    raw: bool,
    as_json: bool,
    no_stream: bool,
    trace_file: Path | None,
    continues: bool,
    save: bool | None,
    show_winners: bool,
    thinks: bool | None,
    stats: bool,
    system: str | None,
    **options: Any,
) -> None:
    """Answer QUESTION by fusing several models.

    Text from a file or a pipe comes before the question. The answer goes to stdout, everything
    else to stderr.

    \b
    cf-local ask "Tom has 23 apples and buys 45 more. How many has he now?" --show-winners
    cf-local ask -f notes.txt "Summarize this." --fusion laptop
    git diff | cf-local ask "Write a commit message."
    echo "What is 7 times 8?" | cf-local ask --json
    cf-local ask "Name a colour." --schema colour.json
    """  # noqa: D301  # click does not rewrap the lines after a backspace
    if raw and (system or thinks is not None):
        raise click.UsageError("--system and --think need a chat template; leave out --raw.")
    if continues and (question or file or raw or system):
        raise click.UsageError("--continue goes on with the last answer; leave out all else.")
    saved = _SavedAnswer.last() if continues else _SavedAnswer(Transcript(system))
    text = "" if continues else read_question(question, file)
    if trace_file is not None:  # an error is reported now, not after the answer
        trace.check_place(trace_file)
    prompt: Prompt
    if continues:
        prompt = replace(saved.prompt, thinks=thinks)
    else:
        prompt = RawText(text) if raw else chat_prompt(text, system=system, thinks=thinks)
    response_format = format_of(options)
    models = _flags_of(options)
    if not as_json:
        hint_at_setup(options)
    # What a continued answer already has is not part of the prompt.
    checked = None if continues else prompt
    with (
        Interrupt() as interrupt,
        loaded(interrupt, options, alone=True, prompt=checked) as fusion,
    ):
        names = [source.info.name for source in fusion.sources]
        settings = settings_of(fusion.settings, names, options)
        settings = replace(settings, response_format=response_format)
        winners = Winners(names, in_colour=shows_colour()) if show_winners else None
        infos = [source.info for source in fusion.speakers(settings)]
        thinking = AnswerSplitter(prompt, infos, has_form=response_format is not None)
        output: _Output = (
            _JsonOutput(not no_stream, settings, thinking)
            if as_json
            else _TextOutput(settings.is_final_as_written and not no_stream, winners, thinking)
        )
        answer = _write(fusion, prompt, settings, output, stats, trace_file)
    is_cut = answer.finish_reason in _CUT
    is_saved = (is_cut and not raw and response_format is None) if save is None else save
    if is_saved or continues:
        saved.add(text, answer, ", ".join(names), thinking)
    _check_complete(answer, has_form=response_format is not None)
    if is_cut and not as_json:
        how = f" `cf-local ask --continue{models}` goes on." if saved.number is not None else ""
        click.echo(f"Note: the answer is cut: {_CUT[answer.finish_reason]}.{how}", err=True)


def _write(
    fusion: Fusion,
    prompt: Prompt,
    settings: Settings,
    output: "_Output",
    stats: bool,
    trace_file: Path | None,
) -> Answer:
    """Stream one answer into ``output``; returns the complete answer."""
    start, first_word_s, date = time.perf_counter(), math.nan, trace.now()
    steps: list[Step] = []
    answer: Answer | None = None
    line = StatusLine()
    reading = partial(line.show, "Reading the prompt")
    try:
        for event in fusion.stream(prompt, settings, on_progress=reading):
            line.clear()
            if isinstance(event, Step):
                if not steps:
                    first_word_s = time.perf_counter() - start
                steps.append(event)
                output.step(event)
            else:
                answer = event
        assert answer is not None
        output.answer(steps, answer)
    finally:  # an answer that breaks off is traced up to that point
        line.clear()
        if trace_file is not None and (steps or answer):
            trace.write(
                trace_file, [trace.record(fusion, prompt, settings, steps, answer, date=date)]
            )
    if stats:
        click.echo(statistics(steps, answer, first_word_s), err=True)
    return answer


def _check_complete(answer: Answer, *, has_form: bool) -> None:
    """Raise Cancelled for an interrupted answer, CfLocalError if it lacks its required form."""
    if answer.finish_reason == "cancelled":
        raise Cancelled("The answer was interrupted; the part written so far is above.")
    if has_form and answer.finish_reason != "stop":
        raise CfLocalError(f"The answer is incomplete: {_WHY_INCOMPLETE[answer.finish_reason]}")


def _flags_of(options: Mapping[str, Any]) -> str:
    """The flags that name the models, to show in a command."""
    named = [f" --fusion {options['fusion']}"] if options["fusion"] else []
    return "".join([*named, *(f" --model {shlex.quote(name)}" for name in options["models"])])


class _SavedAnswer:
    """A question and its answer in the history of chats."""

    def __init__(self, transcript: Transcript, number: int | None = None, revision: int = 0):
        self.number = number
        self._transcript, self._revision = transcript, revision

    @classmethod
    def last(cls) -> "_SavedAnswer":
        """The one that changed last. Raises InputError unless its answer was cut."""
        with ChatStore() as store:
            number = store.last()
            transcript, revision = (Transcript(), 0) if number is None else store.load(number)
        if not transcript.turns or transcript.turns[-1].state == "done":
            raise InputError("There is nothing to continue: the last saved answer is complete.")
        if not transcript.turns[-1].answer:
            raise InputError(
                "There is nothing to continue: the last saved answer was stopped before its first "
                "word. Ask again."
            )
        return cls(transcript, number, revision)

    @property
    def prompt(self) -> Chat:
        """The conversation, whose last answer is to be continued."""
        return Chat(tuple(self._transcript.messages()))

    def add(self, question: str, answer: Answer, models: str, thinking: AnswerSplitter) -> None:
        """Save a question and its answer; without a question, the rest of the last answer.

        An answer that was cut is saved with its thinking, to go on where it ended.
        """
        before = self._transcript
        if question:
            date = datetime.now(UTC).isoformat(timespec="seconds")
            turn = ChatTurn(question, asked_at=date)
        else:
            turn, before = before.turns[-1], before.without_last()
        state = state_after(answer.finish_reason)
        text, thought = turn.answer + answer.text, ""
        if state == "done":
            thought, text = thinking.split(text, ended=True, is_whole=True)
        turn = replace(turn, thinking=thought, answer=text, state=state)
        self._transcript = before.with_turn(turn)
        try:
            with ChatStore() as store:
                self.number, self._revision = store.save(
                    self.number, self._revision, self._transcript, len(before.turns), models
                )
        except CfLocalError as error:  # the answer is there, so this is not a failure
            click.echo(f"Note: the answer is not saved. {error}", err=True)


class _Output(Protocol):
    """Where an answer goes as it is written."""

    def step(self, step: Step) -> None: ...

    def answer(self, steps: Sequence[Step], answer: Answer) -> None: ...


class _JsonOutput:
    """Prints a JSON line per step (if streaming), then one for the answer."""

    def __init__(self, streams: bool, settings: Settings, thinking: AnswerSplitter) -> None:
        self._streams = streams
        self._mode = settings.mode
        self._thinking = thinking

    def step(self, step: Step) -> None:
        if self._streams:
            click.echo(trace.step_line(step, self._mode))

    def answer(self, steps: Sequence[Step], answer: Answer) -> None:
        has_ended = answer.finish_reason != "cancelled"
        thought, text = self._thinking.split(answer.text, ended=has_ended)
        sources = trace.traced(answer.sources)
        click.echo(trace.answer_line(replace(answer, text=text), sources, thinking=thought))


class _TextOutput:
    """Prints the answer as text, step by step if ``streams``.

    Thinking is dimmed on a terminal, and left out elsewhere, as in a chat; so do lines break
    between words.
    """

    def __init__(self, streams: bool, winners: Winners | None, thinking: AnswerSplitter) -> None:
        self._streams = streams
        self._winners = winners
        self._thinking = thinking
        self._shows_thinking = sys.stdout.isatty()
        self._wrap = WordWrap() if sys.stdout.isatty() else None
        self._kind = ""
        if winners is not None:
            click.echo(winners.legend(), err=True)

    def step(self, step: Step) -> None:
        if self._streams:
            self._print([step])

    def answer(self, steps: Sequence[Step], answer: Answer) -> None:
        if steps and not self._streams:
            self._print(trace.shown(steps))
        for piece in self._thinking.flush():
            self._show(piece.kind, [replace(steps[-1], text=piece.text)])
        if text := self._thinking.after_all(ended=answer.finish_reason != "cancelled"):
            self._show("answer", [replace(steps[-1], text=text)])
        click.echo()
        for notice in answer.notices:
            click.echo(f"Note: {notice}", err=True)

    def _print(self, steps: Sequence[Step]) -> None:
        """Print the thinking in ``steps``, then the answer."""
        found: dict[str, list[Step]] = {"thinking": [], "answer": []}
        for step in steps:
            for piece in self._thinking.feed(step.text):
                found[piece.kind].append(replace(step, text=piece.text))
        for kind, parts in found.items():
            self._show(kind, parts)

    def _show(self, kind: str, steps: Sequence[Step]) -> None:
        text = "".join(step.text for step in steps)
        if not text or (kind == "thinking" and not self._shows_thinking):
            return
        if self._winners is not None:
            text = self._winners.text(steps, dims=kind == "thinking" and shows_colour())
        elif kind == "thinking":
            text = click.style(trace.visible(text), dim=shows_colour())
        if kind == "answer" and self._kind == "thinking":
            text = f"\n\n{text}"
        self._kind = kind
        if self._wrap is not None:
            text = self._wrap.feed(text, shutil.get_terminal_size().columns)
        click.echo(text, nl=False)
