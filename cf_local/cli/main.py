"""The group of all commands; decides how errors and Ctrl-C end the process."""

import io
import os
import sys
from importlib import import_module
from typing import Any

import click

from cf_local import __version__
from cf_local.errors import Cancelled, CfLocalError

_COMMANDS = {
    "ask": "ask:ask",
    "bench": "bench:bench",
    "calibrate": "calibrate:calibrate",
    "chat": "chat.command:chat",
    "config": "config:config",
    "doctor": "doctor:doctor",
    "eval": "eval:evaluate",
    "history": "history:history",
    "list": "list:list_models",
    "models": "models:models",
    "plan": "plan:plan",
    "pull": "pull:pull",
    "rm": "rm:rm",
    "serve": "serve:serve",
    "show": "show:show",
    "trace": "trace:trace",
}
"""Where the commands are. Each is imported on demand, as importing all of them takes 0.3 s."""


class _Group(click.Group):
    """Turns the library's errors into one line on stderr and the exit code of their kind."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name].split(":")
        command: click.Command = getattr(import_module(f"cf_local.cli.{module}"), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        if os.environ.get("NO_COLOR"):
            ctx.color = False
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a Windows console may default to cp1252
                stream.reconfigure(encoding="utf-8", errors="replace")
        try:
            return super().invoke(ctx)
        except CfLocalError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            ctx.exit(Cancelled.exit_code)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="cf-local")
def main() -> None:
    """Fuse several local language models into one answer, word by word.

    Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 model file missing, 4 model
    file broken or unusable, 5 not enough memory, 6 prompt too long for the context, 130
    interrupted.
    """
