"""azwi credential: the federated credentials of one identity."""

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
    ReferenceGroup,
    apply_options,
    show_usage,
    sign_in_options,
)
from azwi.contract import DEFAULT_AUDIENCE

if TYPE_CHECKING:
    from collections.abc import Coroutine

_TRUST: Final = (
    click.option("--name", default="", help="Name of the credential; made from whom it trusts when left out."),
    click.option("--service-account-name", default="", help="Name of the service account that it trusts."),
    click.option("--service-account-namespace", default="default", show_default=True, help="Its namespace."),
    click.option(
        "--service-account-issuer-url",
        default="",
        help="Issuer of the tokens; for a service account read from the cluster when left out.",
    ),
    click.option("--subject", default="", help="Subject of the tokens, where it is no service account."),
)
_ADDING: Final = (
    click.option(
        "--claims-matching-expression",
        default="",
        help="Whom it trusts, as an expression: \"claims['sub'] matches 'system:serviceaccount:shop:*'\" (preview).",
    ),
    click.option("--audience", default=DEFAULT_AUDIENCE, show_default=True, help="Audience of the tokens."),
)
_MOVING: Final = (
    click.option("--from-issuer", required=True, help="Issuer whose credentials go."),
    click.option("--to-issuer", required=True, help="Issuer whose tokens are accepted in their place."),
    click.option(
        "--in-place", is_flag=True, help="Change each where it stands: needs no room, but the old issuer ends at once."
    ),
)


@click.group(cls=ReferenceGroup, invoke_without_command=True)
@apply_options(SIGN_IN, CLUSTER)
@click.pass_context
def credential(ctx: click.Context) -> None:
    """Manage the federated credentials of one identity."""
    if ctx.invoked_subcommand is None:
        show_usage(ctx)


@credential.command("list")
@apply_options(IDENTITY, OUTPUT, SIGN_IN, CLUSTER)
@click.pass_context
def list_(ctx: click.Context, /, **values: Any) -> int:  # noqa: ANN401
    r"""List an identity's credentials: whom they trust, whether that service account exists, and the room used.

    \b
    Examples:
      azwi credential list --aad-application-name orders
      azwi credential list --identity-name orders --resource-group shop -o json
    """
    return _run(ctx, "list", values)


@credential.command()
@apply_options(_TRUST, _ADDING, IDENTITY, DRY_RUN, OUTPUT, SIGN_IN, CLUSTER)
@click.pass_context
def add(ctx: click.Context, /, **values: Any) -> int:  # noqa: ANN401
    r"""Add a credential, so that the identity accepts the tokens of one more service account or subject.

    One that is there already is left as it is; another audience is brought up to date.

    \b
    Examples:
      azwi credential add --identity-name orders --resource-group shop --service-account-name orders \
        --service-account-namespace shop --service-account-issuer-url "$ISSUER"
      azwi credential add --aad-application-name ci --name main --service-account-issuer-url "$ISSUER" \
        --claims-matching-expression "claims['sub'] matches 'system:serviceaccount:ci:*'"
    """
    return _run(ctx, "add", values)


@credential.command()
@apply_options(_TRUST, IDENTITY, DRY_RUN, OUTPUT, YES, SIGN_IN, CLUSTER)
@click.pass_context
def remove(ctx: click.Context, /, **values: Any) -> int:  # noqa: ANN401
    r"""Remove a credential by its name, or by whom it trusts. What is not there is no error.

    \b
    Example:
      azwi credential remove --aad-application-name orders --name old-cluster --yes
    """
    return _run(ctx, "remove", values)


@credential.command()
@apply_options(_MOVING, IDENTITY, DRY_RUN, OUTPUT, YES, SIGN_IN, CLUSTER)
@click.pass_context
def sync(ctx: click.Context, /, **values: Any) -> int:  # noqa: ANN401
    r"""Move an identity's credentials from one issuer to another, as when a cluster is made anew.

    Shows the plan first. All new ones are added before the first old one is removed, so nobody is shut out in between.

    \b
    Example:
      azwi credential sync --identity-name orders --resource-group shop \
        --from-issuer https://oidc.example/old/ --to-issuer https://oidc.example/new/ --dry-run
    """
    return _run(ctx, "sync", values)


def _run(ctx: click.Context, verb: str, values: dict[str, Any]) -> int:
    import asyncio  # noqa: PLC0415

    from azwi.cli import trust  # noqa: PLC0415

    verbs = {
        "list": trust.list_trust,
        "add": trust.add_trust,
        "remove": trust.remove_trust,
        "sync": trust.sync_trust,
    }
    work: Coroutine[Any, Any, int] = verbs[verb](sign_in_options(ctx), values)
    return asyncio.run(work)
