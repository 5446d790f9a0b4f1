"""Commands that tell how the chat stands: settings, contexts, statistics."""

import shutil

from cf_local.cli.chat.answering import Written
from cf_local.cli.chat.chat import Chat
from cf_local.cli.chat.settings import listed
from cf_local.errors import InputError


def show(chat: Chat, _rest: str) -> None:
    """Models, files, settings, and where the chat is saved."""
    for source in chat.engine.fusion.sources:
        info = source.info
        chat.view.say(f"{info.name}: {info.file} (context {info.n_ctx}, {info.n_threads} threads)")
    settings = (
        f"{name}={value}" for name, value in listed(chat.engine.settings, chat.engine.fusion)
    )
    chat.view.say(f"settings: {', '.join(settings)}")
    chat.view.say(f"system: {chat.view.safe(chat.transcript.system or 'none')}")
    number = chat.autosave.number
    chat.view.say(f"saved as: chat {number}" if number else "saved as: not saved")


def context(chat: Chat, _rest: str) -> None:
    """Tokens of the last prompt and answer in each source's context, and what was left out."""
    written = last_written(chat)
    assert written.answer is not None
    for source in chat.engine.fusion.sources:
        info = source.info
        n_prompt = written.answer.prompt_tokens.get(info.name)
        if n_prompt is None:
            chat.view.say(f"{info.name}: not asked")
            continue
        n_used = min(info.n_ctx, n_prompt + written.n_answer_tokens.get(info.name, 0))
        n_answer = n_used - n_prompt
        chat.view.say(
            f"{info.name}: {n_used} of {info.n_ctx} tokens ({n_used / info.n_ctx:.0%}): "
            f"prompt {n_prompt}, answer {n_answer}"
        )
    turns = chat.transcript.turns
    unanswered = sum(not turn.answer for turn in turns)
    left_out = [f"the {written.n_dropped} oldest turns"] if written.n_dropped else []
    left_out += [f"{unanswered} without an answer"] if unanswered else []
    chat.view.say(f"{len(turns)} turns; left out: {' and '.join(left_out) or 'nothing'}.")


def stats(chat: Chat, _rest: str) -> None:
    """Speed, agreement and wins of the last answer."""
    chat.view.say(last_written(chat).statistics)


def last_written(chat: Chat) -> Written:
    """The last answer that this chat has written. Raises InputError when there is none."""
    for written in reversed(chat.written):
        if written.steps and written.answer is not None:
            return written
    raise InputError("Nothing was answered yet in this chat. Ask something first.")


def width() -> int:
    """Columns of the terminal."""
    return shutil.get_terminal_size().columns
