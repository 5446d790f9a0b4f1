"""``cf-local chat``: a conversation with a fusion in the terminal."""

import contextlib
import sys
from dataclasses import replace
from typing import Any

import click

from cf_local.cli.interrupt import Interrupt
from cf_local.cli.options import fusion_options, loaded, model_options, settings_of
from cf_local.conversation import Conversation
from cf_local.errors import CfLocalError
from cf_local.fusion import Fusion
from cf_local.types import Settings, Step

with contextlib.suppress(ImportError):  # line editing and history; Windows consoles have their own
    import readline  # noqa: F401

_HELP = """\
/clear   forget the conversation
/help    this list
/bye     leave (or Ctrl-D); Ctrl-C stops an answer and keeps what came"""


@click.command()
@fusion_options
@model_options
def chat(system: str | None, **options: Any) -> None:
    """Talk with several models that answer as one.

    Ctrl-C stops an answer and keeps what came of it; /help lists the commands. Lines from a pipe
    are asked one after the other.
    """
    with Interrupt() as interrupt, loaded(interrupt, options) as fusion:
        settings = replace(settings_of(fusion, options), all_scores=False)
        names = ", ".join(source.info.name for source in fusion.sources)
        if sys.stdin.isatty():
            click.echo(f"Fusing {names}. /help lists the commands, /bye leaves.", err=True)
        conversation = Conversation(system)
        while (line := _read_line(interrupt)) is not None:
            match line.strip():
                case "":
                    continue
                case "/bye":
                    return
                case "/help":
                    click.echo(_HELP, err=True)
                case "/clear":
                    conversation = Conversation(system)
                case command if command.startswith("/"):
                    click.echo(f"There is no command {command.split()[0]}. {_HELP}", err=True)
                case question:
                    _answer(conversation, fusion, question, settings)


def _read_line(interrupt: Interrupt) -> str | None:
    """The next line, None at the end; Ctrl-C at the prompt only drops what was typed."""
    is_terminal = sys.stdin.isatty()
    while True:
        interrupt.clear()
        try:
            with interrupt.raising():
                return input("> " if is_terminal else "")
        except KeyboardInterrupt:
            click.echo(err=True)
        except EOFError:
            if is_terminal:
                click.echo(err=True)
            return None
        except UnicodeDecodeError:
            click.echo("Error: that line is not UTF-8.", err=True)


def _answer(conversation: Conversation, fusion: Fusion, question: str, settings: Settings) -> None:
    """Stream one answer; an error is told and the conversation goes on."""
    try:
        for event in conversation.stream(fusion, question, settings, on_dropped=_tell_dropped):
            # In the modes that rerank only the last step holds the answer.
            if isinstance(event, Step) and (event.whole or settings.mode in ("cool", "single")):
                click.echo(event.text, nl=False)
        click.echo()
    except CfLocalError as error:
        click.echo(f"Error: {error}", err=True)


def _tell_dropped(n_turns: int) -> None:
    click.echo(f"Note: the {n_turns} oldest turns no longer fit the context.", err=True)
