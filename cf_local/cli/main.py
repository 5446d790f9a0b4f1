"""The group of commands, and how errors and Ctrl-C end the process."""

import io
import os
import sys
from typing import Any

import click

from cf_local import __version__
from cf_local.cli.ask import ask
from cf_local.cli.bench import bench
from cf_local.cli.calibrate import calibrate
from cf_local.cli.chat import chat
from cf_local.cli.config import config
from cf_local.cli.doctor import doctor
from cf_local.cli.eval import evaluate
from cf_local.cli.list import list_models
from cf_local.cli.models import models
from cf_local.cli.plan import plan
from cf_local.cli.pull import pull
from cf_local.cli.rm import rm
from cf_local.cli.serve import serve
from cf_local.cli.show import show
from cf_local.cli.trace import trace
from cf_local.errors import Cancelled, CfLocalError


class _Group(click.Group):
    """Turns the library's errors into one line on stderr and the exit code of their kind."""

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

    Exit codes: 0 done, 1 failed, 2 wrong use or configuration, 3 model file missing, 4 model file
    broken or of no use here, 5 not enough memory, 6 prompt too long for the context, 130
    interrupted.
    """


main.add_command(ask)
main.add_command(bench)
main.add_command(calibrate)
main.add_command(chat)
main.add_command(config)
main.add_command(doctor)
main.add_command(evaluate)
main.add_command(list_models)
main.add_command(models)
main.add_command(plan)
main.add_command(pull)
main.add_command(rm)
main.add_command(serve)
main.add_command(show)
main.add_command(trace)
