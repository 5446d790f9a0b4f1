"""The command itself: its options, and how a chat is put together and run."""

from typing import Any

import click

from cf_local.cli.interrupt import Interrupt
from cf_local.cli.options import fusion_options, model_options


@click.command()
@click.option("-c", "--continue", "continues", is_flag=True, help="Go on with the last chat.")
@click.option(
    "--chat", "number", type=click.IntRange(1), help="Go on with the chat of that number."
)
@click.option("--no-history", is_flag=True, help="Keep nothing of this chat on the disk.")
@click.option("--show-winners", is_flag=True, help="Mark which source won which words.")
@click.option(
    "--think/--no-think",
    "thinks",
    default=None,
    help="Ask reasoning models to think first, or not to.",
)
@fusion_options
@model_options
def chat(
    continues: bool,
    number: int | None,
    no_history: bool,
    show_winners: bool,
    thinks: bool | None,
    system: str | None,
    **options: Any,
) -> None:
    """Talk with several models that answer as one.

    Ctrl-C stops an answer and keeps what came of it, Ctrl-D leaves, /help lists the commands.
    Three double quotes begin and end a text of several lines. Chats are saved as they go (see
    `cf-local history`). Lines from a pipe are asked one after the other.
    """
    if no_history and (continues or number is not None):
        raise click.UsageError("--no-history knows no earlier chat; leave out -c and --chat.")
    # Imported here: `--help` and the other commands need neither a database nor line editing.
    from cf_local.cli.chat.start import StartOptions, start

    start_options = StartOptions(continues, number, no_history, show_winners, thinks, system)
    with Interrupt() as interrupt:
        start(interrupt, start_options, options)
