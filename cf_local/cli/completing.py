"""Completion in shells: names of fusions and sources, and the script for PowerShell.

Click writes the scripts for bash, zsh and fish, and asks the functions here for names. Nothing is
printed and nothing sent; a models.toml that cannot be read completes nothing.
"""

import os
from collections.abc import Iterable, Mapping

import click
from click.shell_completion import CompletionItem, ShellComplete, add_completion_class

from cf_local.errors import CfLocalError
from cf_local.registry.registry import FusionSpec, Registry, SourceSpec, load_registry

SHELLS = ("bash", "zsh", "fish", "powershell")

_POWERSHELL = """\
Register-ArgumentCompleter -Native -CommandName %(prog_name)s -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $words = $commandAst.CommandElements |
        Where-Object { $_.Extent.EndOffset -lt $cursorPosition } |
        ForEach-Object { $_.ToString().Trim('"', "'") }
    $env:%(complete_var)s = 'powershell_complete'
    $env:COMP_WORDS = $words -join "`n"
    $env:COMP_CWORD = $wordToComplete
    try {
        %(prog_name)s | ForEach-Object {
            $type, $value, $help = $_ -split "`t", 3
            if ($type -eq 'plain') {
                [System.Management.Automation.CompletionResult]::new(
                    $value, $value, 'ParameterValue', $help)
            }
        }
    } finally {
        Remove-Item Env:%(complete_var)s, Env:COMP_WORDS, Env:COMP_CWORD
    }
}
"""


@add_completion_class
class PowerShellComplete(ShellComplete):
    """Completion in PowerShell, which completes paths by itself where nothing is offered."""

    name = "powershell"
    source_template = _POWERSHELL

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one to complete, and that one."""
        words = os.environ.get("COMP_WORDS", "").split("\n")
        return words[1:], os.environ.get("COMP_CWORD", "")

    def format_completion(self, item: CompletionItem) -> str:
        """Type, value and help in one line; PowerShell needs a help."""
        return f"{item.type}\t{item.value}\t{item.help or item.value}"


def fusions(_ctx: click.Context, _param: click.Parameter, start: str) -> list[CompletionItem]:
    """Names of fusions."""
    registry = _registry()
    return _items(registry.fusions, start) if registry else []


def sources(_ctx: click.Context, _param: click.Parameter, start: str) -> list[CompletionItem]:
    """Names of sources."""
    registry = _registry()
    return _items(registry.sources, start) if registry else []


def names(_ctx: click.Context, _param: click.Parameter, start: str) -> list[CompletionItem]:
    """Names of fusions and sources."""
    registry = _registry()
    return _items({**registry.sources, **registry.fusions}, start) if registry else []


def models(ctx: click.Context, param: click.Parameter, start: str) -> list[CompletionItem]:
    """Names of sources, or a path where no name begins like that."""
    return sources(ctx, param, start) or [CompletionItem(start, type="file")]


def _registry() -> Registry | None:
    try:
        return load_registry()
    except CfLocalError:
        return None


def _items(
    specs: Mapping[str, FusionSpec] | Mapping[str, SourceSpec] | Mapping[str, object], start: str
) -> list[CompletionItem]:
    found: Iterable[str] = (name for name in specs if name.startswith(start))
    return [CompletionItem(name, help=getattr(specs[name], "description", None)) for name in found]
