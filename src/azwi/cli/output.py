"""What commands print: progress on stderr, results on stdout; colours only on a terminal, never with NO_COLOR."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from azwi.identity.model import CHANGING, Result
from azwi.identity.report import done_line, plan_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from azwi.identity.model import Done, Step


class Progress:
    """What happens, for people: on a terminal with rich, else one plain line for each event."""

    def __init__(self) -> None:
        self._fancy = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._status: Any = None
        self._console: Any = None
        if self._fancy:
            from rich.console import Console  # noqa: PLC0415

            self._console = Console(stderr=True, highlight=False)  # rich minds NO_COLOR

    def plan(self, title: str, steps: Sequence[Step]) -> None:
        """Show what will be done."""
        count = sum(step.action in CHANGING for step in steps)
        self._say(f"{title}: {count} of {len(steps)} steps change something", "bold")
        for step in steps:
            self._say(f"  {plan_line(step)}", "dim" if step.action not in CHANGING else "")

    def start(self, what: str) -> None:
        """Say what is being done, while it is."""
        if self._fancy:
            self.stop()
            self._status = self._console.status(what)
            self._status.start()

    def stop(self) -> None:
        """Nothing is being done."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def done(self, done: Done) -> None:
        """Say what a step did."""
        self.stop()
        style = "yellow" if done.warning else "green" if done.result is not Result.UNCHANGED else "dim"
        prefix = "Warning: " if done.warning else ""
        self._say(f"{prefix}{done_line(done)}", style)

    def say(self, line: str) -> None:
        """Say something else."""
        self.stop()
        self._say(line, "")

    def _say(self, line: str, style: str) -> None:
        if self._fancy:
            self._console.print(line, style=style or None, markup=False, soft_wrap=True)
        else:
            click.echo(line, err=True)


def confirm(question: str, *, yes: bool, required: bool = False) -> None:
    """Ask on a terminal before something is removed.

    Args:
        question: What to ask.
        yes: Whether that was answered by a flag.
        required: Whether without a terminal the flag is needed.

    Raises:
        click.ClickException: Nobody can be asked, and the flag is needed.
        click.Abort: The answer is no.
    """
    if yes:
        return
    if sys.stdin.isatty() and sys.stderr.isatty():
        click.confirm(question, abort=True, err=True)
    elif required:
        raise click.ClickException(f"{question} There is no terminal to ask: add --yes, or see it with --dry-run")


def print_document(document: Mapping[str, Any], output: str) -> None:
    """Print a result for machines."""
    if output == "yaml":
        import yaml  # noqa: PLC0415

        click.echo(yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True), nl=False)
    else:
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns, without colours, so that it can be read by programs too."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
