"""azwi completion: a script for a shell, made by click."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> int:
    r"""Print a script that completes azwi's commands and options in a shell.

    \b
    Examples:
      source <(azwi completion bash)
      azwi completion zsh > "${fpath[1]}/_azwi"
      azwi completion fish > ~/.config/fish/completions/azwi.fish
    """
    from azwi.cli.main import azwi  # noqa: PLC0415

    kind = get_completion_class(shell)
    if kind is None:  # pragma: no cover  # click has all three
        raise click.ClickException(f"click has no completion for {shell}")
    click.echo(kind(azwi, {}, "azwi", "_AZWI_COMPLETE").source())
    return 0
