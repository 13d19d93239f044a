"""The reference pages of commands, written from their own definitions, so that no document can be wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

_WIDTH: Final = 100  # characters
START: Final = "<!-- from here on written by `make docs`, from the commands' definitions -->"


def render_reference(command: click.Command, name: str) -> str:
    """Markdown for a command and all commands below it."""
    # As the command is called: its own settings are not applied to a context that is made by hand.
    context = click.Context(command, info_name=name, terminal_width=_WIDTH, help_option_names=["-h", "--help"])
    return "\n".join(_render(command, context, 2))


def _render(command: click.Command, context: click.Context, level: int) -> Iterator[str]:
    yield f"{'#' * min(level, 4)} `{context.command_path}`\n"
    yield f"```text\n{command.get_help(context).rstrip()}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None:
                inner = click.Context(below, info_name=name, parent=context, terminal_width=_WIDTH)
                yield from _render(below, inner, level + 1)
