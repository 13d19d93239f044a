"""azwi serviceaccount: give a service account an identity, take it away, show it. Flags and phases: R 7."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from azwi.cli.options import (
    CLUSTER,
    DRY_RUN,
    IDENTITY,
    OUTPUT,
    SIGN_IN,
    YES,
    CommaSeparated,
    Duration,
    ReferenceGroup,
    apply_options,
    show_usage,
    sign_in_options,
)
from azwi.cli.request import Request
from azwi.contract import DEFAULT_AUDIENCE

if TYPE_CHECKING:
    from collections.abc import Callable


_NAME = click.option("--service-account-name", default="", help="Name of the service account.")
_NAMESPACE = click.option("--service-account-namespace", default="default", show_default=True, help="Its namespace.")
_ISSUER = click.option(
    "--service-account-issuer-url",
    default="",
    help="Issuer of the cluster's tokens, exactly as it stands in them; the cluster's own word when left out.",
)
_EXPIRATION = click.option(
    "--service-account-token-expiration",
    type=Duration(),
    default="1h",
    show_default=True,
    help="Life of the token that Pods get, 1h to 24h.",
)
_ACCOUNT: Final = (_NAME, _NAMESPACE, _ISSUER)
_PRINCIPAL: Final = (
    click.option(
        "--service-principal-name", default="", help="Name of a service principal, where no application is named."
    ),
    click.option("--service-principal-object-id", default="", help="Object id of its principal."),
)
_ROLE: Final = (
    click.option("--azure-scope", default="", help="Where the role is given, such as /subscriptions/ID."),
    click.option("--azure-role", default="", help="Role by name, GUID or resource id."),
)
_AUDIENCE: Final = (
    click.option("--audience", default=DEFAULT_AUDIENCE, show_default=True, help="Audience of the credential."),
)
_MAKING: Final = (
    click.option("--location", default="", help="Where a managed identity is made; its group's when left out."),
)
_TAKING_OVER: Final = (
    click.option("--overwrite", is_flag=True, help="Take over annotations that somebody else manages."),
)
_WAITING: Final = (
    click.option("--wait", is_flag=True, help="Go on until a token of the service account gets an access token."),
    click.option("--wait-timeout", type=Duration(), default="5m", show_default=True, help="For how long, with --wait."),
)
_SKIPPING: Final = (
    click.option("--skip-phases", type=CommaSeparated(), multiple=True, help="Phases to leave out, between commas."),
)
_REMOVING: Final = (click.option("--role-assignment-id", default="", help="Id of the role assignment to remove."),)
_KEEPING: Final = (
    click.option("--keep-service-account", is_flag=True, help="Leave the service account, without azwi's annotations."),
)

_CREATE_HELP = """Give a service account an identity.

\b
Phases, in their order:
  aad-application (app)     an application and its principal, or
  managed-identity (mi)     a user-assigned managed identity
  service-account (sa)      the service account's annotations
  federated-identity (fi)   the credential that trusts its tokens
  role-assignment (ra)      a role at a scope

What is there stays or is brought up to date; running it twice does no more than once. The application is called after
the service account unless --aad-application-name says otherwise. For an application, role-assignment needs
--azure-scope and --azure-role, or --skip-phases role-assignment.

\b
Examples:
  azwi serviceaccount create --service-account-name orders --service-account-namespace shop \\
    --service-account-issuer-url "$ISSUER" --skip-phases role-assignment --wait
  azwi sa create --service-account-name orders --service-account-namespace shop \\
    --service-account-issuer-url "$ISSUER" --identity-name orders --resource-group shop \\
    --azure-role Reader --azure-scope /subscriptions/$SUBSCRIPTION/resourceGroups/shop
  azwi sa create phase federated-identity --aad-application-name orders \\
    --service-account-name orders --service-account-issuer-url "$ISSUER"
"""
_DELETE_HELP = """Take a service account's identity away.

\b
Phases, in their order:
  role-assignment (ra)      the role assignment that is named
  federated-identity (fi)   the credential; left out where the application goes
  service-account (sa)      the service account
  aad-application (app)     the application with its principal, or
  managed-identity (mi)     the managed identity, if azwi made it and nobody else uses it

What is not there is no error.

\b
Examples:
  azwi serviceaccount delete --service-account-name orders --service-account-namespace shop \\
    --service-account-issuer-url "$ISSUER" --skip-phases role-assignment
  azwi sa delete --service-account-name orders --service-account-namespace shop \\
    --service-account-issuer-url "$ISSUER" --identity-name orders --resource-group shop --keep-service-account
"""


@click.group(cls=ReferenceGroup, invoke_without_command=True)
@apply_options(SIGN_IN, CLUSTER)
@click.pass_context
def serviceaccount(ctx: click.Context) -> None:
    """Manage the identities of service accounts (alias: sa)."""
    if ctx.invoked_subcommand is None:
        show_usage(ctx)


@serviceaccount.group(
    cls=ReferenceGroup, invoke_without_command=True, help=_CREATE_HELP, short_help="Give an identity."
)
@apply_options(
    _ACCOUNT,
    (_EXPIRATION,),
    IDENTITY,
    _MAKING,
    _PRINCIPAL,
    _ROLE,
    _AUDIENCE,
    _SKIPPING,
    _TAKING_OVER,
    _WAITING,
    DRY_RUN,
    OUTPUT,
    SIGN_IN,
    CLUSTER,
    YES,
)
@click.pass_context
def create(ctx: click.Context, /, **values: Any) -> int | None:  # noqa: ANN401
    """Create; the help text stands above."""
    return None if ctx.invoked_subcommand else _create(ctx, Request(**values), "")


@serviceaccount.group(
    cls=ReferenceGroup, invoke_without_command=True, help=_DELETE_HELP, short_help="Take an identity away."
)
@apply_options(_ACCOUNT, IDENTITY, _REMOVING, _KEEPING, _SKIPPING, DRY_RUN, OUTPUT, SIGN_IN, CLUSTER, YES)
@click.pass_context
def delete(ctx: click.Context, /, **values: Any) -> int | None:  # noqa: ANN401
    """Delete; the help text stands above."""
    return None if ctx.invoked_subcommand else _delete(ctx, Request(**values), "")


_PHASE_ALIASES: Final = {
    "app": "aad-application",
    "mi": "managed-identity",
    "sa": "service-account",
    "fi": "federated-identity",
    "ra": "role-assignment",
}
_CREATE_PHASES: Final = {
    "aad-application": ("Create an application and its principal.", (_ACCOUNT, IDENTITY[:1])),
    "managed-identity": ("Create a user-assigned managed identity.", (IDENTITY[3:], _MAKING)),
    "service-account": (
        "Annotate the service account, which is made if it is not there.",
        (_ACCOUNT, (_EXPIRATION,), IDENTITY, _TAKING_OVER),
    ),
    "federated-identity": ("Add the credential that trusts the service account.", (_ACCOUNT, IDENTITY, _AUDIENCE)),
    "role-assignment": ("Give the identity a role at a scope.", (_ACCOUNT, IDENTITY, _PRINCIPAL, _ROLE)),
}
_DELETE_PHASES: Final = {
    "role-assignment": ("Remove a role assignment.", (_REMOVING,)),
    "federated-identity": ("Remove the credential of the service account.", (_ACCOUNT, IDENTITY)),
    "service-account": ("Delete the service account.", (_ACCOUNT[:2], _KEEPING)),
    "aad-application": ("Delete the application with its principal.", (_ACCOUNT, IDENTITY[:3])),
    "managed-identity": ("Delete the managed identity, if azwi made it and nobody uses it.", (IDENTITY[3:],)),
}


def _add_phases(
    parent: click.Group,
    phases: dict[str, tuple[str, tuple[tuple[Any, ...], ...]]],
    work: Callable[[click.Context, Request, str], int],
) -> None:
    """The group `phase` with a command for each phase, which knows the options of that phase only."""

    @parent.group(
        "phase",
        cls=ReferenceGroup,
        aliases=_PHASE_ALIASES,
        invoke_without_command=True,
        short_help="Run one phase only.",
    )
    @apply_options(SIGN_IN, CLUSTER)
    @click.pass_context
    def phase(ctx: click.Context) -> None:
        """Run one phase only."""
        if ctx.invoked_subcommand is None:
            show_usage(ctx)

    for name, (help_text, families) in phases.items():
        phase.add_command(_phase_command(name, help_text, families, work))


def _phase_command(
    name: str, help_text: str, families: tuple[tuple[Any, ...], ...], work: Callable[[click.Context, Request, str], int]
) -> click.Command:
    alias = next(alias for alias, phase in _PHASE_ALIASES.items() if phase == name)

    @click.command(name, help=f"{help_text}\n\nAlias: {alias}.", short_help=help_text)
    @apply_options(*families, DRY_RUN, OUTPUT, SIGN_IN, CLUSTER, YES)
    @click.pass_context
    def command(ctx: click.Context, /, **values: Any) -> int:  # noqa: ANN401
        return work(ctx, Request(**values), name)

    return command


@serviceaccount.command()
@apply_options(_ACCOUNT, OUTPUT, SIGN_IN, CLUSTER)
@click.pass_context
def show(ctx: click.Context, /, **values: Any) -> int:  # noqa: ANN401
    r"""Show a service account's identity: its annotations, whose they are, and the credentials that trust it.

    \b
    Example:
      azwi serviceaccount show --service-account-name orders --service-account-namespace shop -o json
    """
    import asyncio  # noqa: PLC0415

    from azwi.cli.show import show_account  # noqa: PLC0415

    return asyncio.run(show_account(sign_in_options(ctx), Request(**values)))


def _create(ctx: click.Context, request: Request, phase: str) -> int:
    import asyncio  # noqa: PLC0415

    from azwi.cli.creation import create_account  # noqa: PLC0415

    return asyncio.run(create_account(sign_in_options(ctx), request, phase))


def _delete(ctx: click.Context, request: Request, phase: str) -> int:
    import asyncio  # noqa: PLC0415

    from azwi.cli.creation import delete_account  # noqa: PLC0415

    return asyncio.run(delete_account(sign_in_options(ctx), request, phase))


_add_phases(create, _CREATE_PHASES, _create)
_add_phases(delete, _DELETE_PHASES, _delete)
