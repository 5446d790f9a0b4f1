"""The group of all commands; decides how errors and Ctrl-C end the process."""

import errno
import io
import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any

import click

from cf_local import __version__
from cf_local.cli.help import write_commands
from cf_local.errors import Cancelled, CfLocalError

DEBUG_VARIABLE = "CF_LOCAL_DEBUG"
"""The environment variable that shows where an unexpected error comes from."""
_SECTIONS = {
    "Basics": {
        "setup": "setup:setup",
        "ask": "ask:ask",
        "chat": "chat.command:chat",
        "history": "history:history",
        "trace": "trace:trace",
        "embed": "embed:embed",
    },
    "Models": {
        "list": "list:list_models",
        "show": "show:show",
        "pull": "pull:pull",
        "rm": "rm:rm",
        "models": "models:models",
        "plan": "plan:plan",
    },
    "Serve": {
        "serve": "serve:serve",
        "connect": "connect.command:connect",
    },
    "Measure": {
        "eval": "eval:evaluate",
        "calibrate": "calibrate:calibrate",
        "bench": "bench:bench",
    },
    "This machine": {
        "config": "config:config",
        "doctor": "doctor:doctor",
        "completion": "completion:completion",
    },
}
"""Where the commands are. Each is imported on demand, as importing all of them takes 0.3 s."""
_COMMANDS = {name: place for section in _SECTIONS.values() for name, place in section.items()}
_COMPLETE_VARIABLE = "_CF_LOCAL_COMPLETE"  # set by the scripts of `cf-local completion`


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

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by section."""
        write_commands(ctx, formatter, self, _SECTIONS)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line, with standard streams whatever the caller closed."""
        _open_closed_streams()
        if _COMPLETE_VARIABLE in os.environ:
            import_module("cf_local.cli.completing")  # click then knows PowerShell
        return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        if os.environ.get("NO_COLOR"):
            ctx.color = False
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a Windows console may default to cp1252
                stream.reconfigure(encoding="utf-8", errors="replace")
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # here, where a full disk can still be reported
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - reported in one line
            ctx.exit(_reported(error))
        return result


def _reported(error: BaseException) -> int:
    """The exit code after an error, which is reported on stderr in one line."""
    if isinstance(error, CfLocalError):
        _say(f"Error: {error}")
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        _say("Interrupted.")
        return Cancelled.exit_code
    if isinstance(error, OSError):
        if error.errno == errno.EPIPE:  # click ends quietly: the reader has seen enough
            raise error
        _say(f"Error: {_what_failed(error)}.")
        return CfLocalError.exit_code
    if os.environ.get(DEBUG_VARIABLE):
        raise error
    _say(
        f"Error: {type(error).__name__}: {error}. This is a fault in cf-local. Run it again with "
        f"{DEBUG_VARIABLE}=1 to see where it is, and report that."
    )
    return CfLocalError.exit_code


def _open_closed_streams() -> None:
    """Open the null device where the caller closed a standard stream.

    Otherwise the next file that is opened gets its number, and what llama.cpp writes to standard
    error ends up in that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    is_closed = sys.stdout is None
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8"))
    if is_closed:
        _say("Note: standard output is closed; nothing is printed.")


def _say(text: str) -> None:
    """Write to standard error, as far as it can be written to."""
    with suppress(OSError):
        click.echo(text, err=True)


def _what_failed(error: OSError) -> str:
    """A failure of the operating system in words; standard output has no name."""
    reason = error.strerror or str(error)
    if error.filename is not None:
        return f"{error.filename}: {reason}"
    # What is left in its buffer would fail again at the end of the process.
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return f"the output cannot be written: {reason}"


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="cf-local")
def main() -> None:
    """Fuse several local language models into one answer, word by word.

    Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 model file missing, 4 model
    file broken or unusable, 5 not enough memory, 6 prompt too long for the context, 130
    interrupted.
    """
