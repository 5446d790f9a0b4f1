"""The layout of ``--help``: commands and options in groups, and a short form of long lists.

A command with the options of answers has more than fifty. Its ``--help`` shows those that most
people need, a line each; ``--help-all`` shows all, with their ranges and environment variables.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

BASICS, FUSION, SAMPLING, MACHINE = "Basics", "Fusion", "Sampling", "Machine"
GROUPS = (BASICS, FUSION, SAMPLING, MACHINE)
_COMMON = frozenset(
    (
        *("--fusion", "--model", "--system", "--max-tokens", "--schema", "--mode", "--only"),
        *("--weight", "--temperature", "--seed", "--context", "--threads", "--offline"),
    )
)
_IS_LONG = "cf_local.help_all"
_FLAG_COLUMN = 22


class SharedOption(click.Option):
    """An option of several commands, in a group of the help; ``standard`` is shown as its default.

    The default of the parameter itself is None where models.toml may say otherwise.
    """

    def __init__(
        self, *args: Any, group: str = BASICS, standard: str | None = None, **attributes: Any
    ) -> None:
        super().__init__(*args, **attributes)
        self.group, self.standard = group, standard

    def get_help_extra(self, ctx: click.Context) -> Any:
        """Like click's, with the default."""
        extra = super().get_help_extra(ctx)
        if self.standard is not None:
            extra["default"] = self.standard
        return extra


class LongCommand(click.Command):
    """A command whose ``--help`` is short; ``--help-all`` shows every option."""

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.params.append(
            click.Option(
                ["--help-all"],
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=_show_all,
                help="Show all options and their variables.",
            )
        )

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options by group."""
        is_long = ctx.meta.get(_IS_LONG, False)
        groups: dict[str, list[tuple[str, str]]] = {}
        for option in self.get_params(ctx):
            if not isinstance(option, click.Option):
                continue
            record = _record(option, ctx, is_long=is_long)
            if record is not None:
                groups.setdefault(getattr(option, "group", BASICS), []).append(record)
        for title in GROUPS:
            if title in groups:
                if is_long or title == GROUPS[0]:
                    formatter.write_paragraph()
                formatter.write_heading(title)
                with formatter.indentation():
                    formatter.write_dl(groups[title], col_max=30 if is_long else _FLAG_COLUMN)


def _record(option: click.Option, ctx: click.Context, *, is_long: bool) -> tuple[str, str] | None:
    """Flags and text of an option; None if it is not shown."""
    if is_long:
        return option.get_help_record(ctx)
    if isinstance(option, SharedOption) and option.opts[-1] not in _COMMON:
        return None
    standard = getattr(option, "standard", None)
    text = (option.help or "").partition(";")[0].rstrip(".")
    return _flags(option), f"{text} [{standard}]." if standard else f"{text}."


def _flags(option: click.Option) -> str:
    """Flags and the kind of value in one short text; choices are for ``--help-all``."""
    flags = ", ".join([*option.opts, *option.secondary_opts])
    if option.is_flag or option.count:
        return flags
    kind = option.type.name.upper().partition(" ")[0]
    short = {"INTEGER": "N", "FLOAT": "N", "CHOICE": option.opts[-1].lstrip("-").upper()}
    return f"{flags} {option.metavar or short.get(kind, kind)}"


def _show_all(ctx: click.Context, _option: click.Parameter, is_given: bool) -> None:
    if is_given and not ctx.resilient_parsing:
        ctx.meta[_IS_LONG] = True
        click.echo(ctx.get_help(), color=ctx.color)
        ctx.exit()


def write_commands(
    ctx: click.Context,
    formatter: click.HelpFormatter,
    group: click.Group,
    sections: Mapping[str, Iterable[str]],
) -> None:
    """Write the commands with one line each, in sections; hidden ones are left out."""
    rows: dict[str, list[tuple[str, str]]] = {}
    limit = formatter.width - 8 - max(len(name) for names in sections.values() for name in names)
    for title, names in sections.items():
        commands: Sequence[tuple[str, click.Command | None]] = [
            (name, group.get_command(ctx, name)) for name in names
        ]
        rows[title] = [
            (name, command.get_short_help_str(limit))
            for name, command in commands
            if command is not None and not command.hidden
        ]
    for title, lines in rows.items():
        with formatter.section(title):
            formatter.write_dl(lines)
