"""The click command ``chat`` and its options."""

from typing import Any

import click

from cf_local.cli.help import LongCommand
from cf_local.cli.interrupt import Interrupt
from cf_local.cli.options import THINK, fusion_options, model_options, ray_options


@click.command(cls=LongCommand)
@click.option("-c", "--continue", "continues", is_flag=True, help="Continue the last chat.")
@click.option(
    "--chat", "number", type=click.IntRange(1), help="Continue the chat with this number."
)
@click.option("--no-history", is_flag=True, help="Save nothing of this chat to the disk.")
@click.option("--show-winners", is_flag=True, help="Mark which source won which words.")
@THINK
@fusion_options
@model_options
@ray_options
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

    Ctrl-C stops an answer and keeps the part written so far. Ctrl-D leaves, /help lists the
    commands. Three double quotes start and end a text of several lines. Chats are saved while
    they run (see `cf-local history`). Lines from a pipe are answered one after the other.
    """
    if no_history and (continues or number is not None):
        raise click.UsageError(
            "--no-history cannot continue an earlier chat. Leave out -c and --chat."
        )
    # Imported here: `--help` and the other commands need neither a database nor line editing.
    from cf_local.cli.chat.start import StartOptions, start
    from cf_local.cli.hint import hint_at_setup

    hint_at_setup(options)
    start_options = StartOptions(continues, number, no_history, show_winners, thinks, system)
    with Interrupt() as interrupt:
        start(interrupt, start_options, options)
