"""The command azwi: its commands by name, imported when they are called, and errors as one sentence."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Final

import click

from azwi.cli.options import DEBUG, apply_options
from azwi.errors import AzwiError
from azwi.version import GIT_COMMIT, __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

# Command: the module it stands in, and the line that --help shows of it.
_COMMANDS: Final = {
    "apply": ("azwi.cli.apply", "Give many service accounts their identities, from a file."),
    "completion": ("azwi.cli.completion", "Print a script that completes azwi's commands in a shell."),
    "credential": ("azwi.cli.credential", "List, add, remove and move an identity's federated credentials."),
    "demo": ("azwi.cli.local", "Show the main job on this machine: a Pod goes in, a token comes out."),
    "emulator": ("azwi.cli.local", "Run a stand-in for Microsoft Entra on loopback."),
    "inject": ("azwi.cli.local", "Do to manifests what the webhook would do, without a cluster."),
    "run": ("azwi.cli.local", "Run a command as a container of a manifest would run."),
    "serviceaccount": ("azwi.cli.serviceaccount", "Give service accounts identities, take them away, show them."),
    "version": ("azwi.cli.main", "Print the version."),
}


_INTERRUPTED: Final = 130  # as shells have it: 128 and the number of SIGINT
_ALIASES: Final = {"sa": "serviceaccount"}
# Where every mistake ends with 1, as in the reference; elsewhere one on the command line ends with 2.
_REFERENCE: Final = frozenset({"azwi", "apply", "completion", "credential", "serviceaccount", "sa", "version"})


class _LazyGroup(click.Group):
    """A group that imports a command only when it is called, so that --help stays fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        name = _ALIASES.get(cmd_name, cmd_name)
        if name not in _COMMANDS:
            return None
        module, _ = _COMMANDS[name]
        command: click.Command = getattr(importlib.import_module(module), name)
        _keep_paragraphs(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS.keys() | _ALIASES.keys() and not args[0].startswith("-"):
            # The reference ends with 1 for a command that it does not know, and with 2 for nothing.
            raise click.ClickException(f"unknown command {args[0]!r}; azwi --help lists the commands")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name][1]) for name in sorted(_COMMANDS)])


def _keep_paragraphs(command: click.Command) -> None:
    r"""Let `\b` in raw docstrings keep its paragraph as it is written, as click's own mark does."""
    if command.help:
        command.help = command.help.replace("\\b\n", "\b\n")
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        _keep_paragraphs(below)


@click.group(cls=_LazyGroup, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@apply_options(DEBUG)
@click.pass_context
def azwi(ctx: click.Context) -> None:
    """Identities from Microsoft Entra for Kubernetes workloads, without secrets."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@click.command()
@apply_options(DEBUG)
def version() -> None:
    """Print the version."""
    click.echo(f"Version: {__version__}\nGitCommit: {GIT_COMMIT}")


def _command_of(problem: click.UsageError, arguments: Sequence[str]) -> str:
    """The command below azwi that was used wrongly: by its context, or where click's parser gives none by its name."""
    ctx = problem.ctx
    if ctx is None:
        return next((word for word in arguments if not word.startswith("-")), "")
    while ctx.parent is not None and ctx.parent.parent is not None:
        ctx = ctx.parent
    return ctx.info_name or ""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; gives the exit code: 0, 1 for a failure, 2 for a bad flag."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        result = azwi.main(args=arguments, prog_name="azwi", standalone_mode=False)
    except click.UsageError as problem:
        problem.show()
        return 1 if _command_of(problem, arguments) in _REFERENCE else problem.exit_code
    except click.ClickException as problem:
        problem.show()
        return problem.exit_code
    except click.Abort as problem:
        if isinstance(problem.__context__, KeyboardInterrupt):
            click.echo("Interrupted: what is done stays; the same command goes on from there.", err=True)
            return _INTERRUPTED
        click.echo("Aborted.", err=True)
        return 1
    except AzwiError as problem:
        click.echo(f"Error: {problem}", err=True)
        return problem.exit_code
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    sys.exit(main())
