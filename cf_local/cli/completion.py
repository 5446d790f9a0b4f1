"""``cf-local completion``: prints what makes a shell complete commands, options and names."""

import click
from click.shell_completion import get_completion_class

from cf_local.cli.completing import SHELLS


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, /, shell: str) -> None:
    """Print the script that completes commands in SHELL.

    It completes options and names of models, too.

    \b
    bash:        eval "$(cf-local completion bash)"                   in ~/.bashrc
    zsh:         eval "$(cf-local completion zsh)"                    in ~/.zshrc
    fish:        cf-local completion fish | source                    in config.fish
    powershell:  cf-local completion powershell | Out-String | Invoke-Expression    in $PROFILE
    """  # noqa: D301  # click does not rewrap the lines after a backspace
    root = context.find_root()
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(root.command, {}, "cf-local", "_CF_LOCAL_COMPLETE").source())
