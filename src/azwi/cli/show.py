"""What `azwi serviceaccount show` and `azwi credential list` find out and print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from azwi.cli.output import print_document, print_table
from azwi.cli.session import check_options, open_session
from azwi.contract import CLIENT_ID_ANNOTATION, PREFIX
from azwi.errors import ClusterError, ConfigurationError
from azwi.identity.model import Identity, IdentityRef, OrderError
from azwi.identity.names import account_of, subject_of
from azwi.identity.report import credential_rows, credentials_document, quota_line
from azwi.identity.services import Services, account_exists, find_identity, list_credentials

if TYPE_CHECKING:
    from collections.abc import Sequence

    from azwi.cli.options import SignInOptions
    from azwi.cli.request import Request
    from azwi.cluster.annotations import Account
    from azwi.entra.federation import FederatedCredential


async def show_account(options: SignInOptions, request: Request) -> int:
    """Show a service account, its identity, and the credentials that trust it; 1 where it could get no token.

    Raises:
        AzwiError: The account is not there, or something refuses.
    """
    namespace, name = request.service_account_namespace, request.service_account_name
    if not name:
        raise OrderError("--service-account-name is required")
    async with open_session(options, check_options(options)) as session:
        services = session.services
        account = await services.accounts().read(namespace, name)
        if account is None:
            raise OrderError(f"service account {namespace}/{name} does not exist")
        client_id = account.annotations.get(CLIENT_ID_ANNOTATION, "")
        identity = await _identity_of(services, client_id) if client_id else None
        credentials = await list_credentials(services, identity) if identity else ()
    trusting = [
        one
        for one in credentials
        if one.subject == subject_of(namespace, name) and request.service_account_issuer_url in {"", one.issuer}
    ]
    if request.output == "table":
        _print_account(account, identity, credentials, trusting)
    else:
        document = _account_document(account, identity, services.tenant_id, credentials, trusting)
        print_document({"command": "serviceaccount show"} | document, request.output)
    return 0 if trusting else 1


async def _identity_of(services: Services, client_id: str) -> Identity | None:
    """The application or managed identity with that client id."""
    identity = await find_identity(services, IdentityRef(client_id=client_id), principal=True)
    if identity.object_id:
        return identity
    principal = await services.graph.find_principal(client_id)
    if principal is None or not principal.resource_id:
        return None
    found = await find_identity(services, IdentityRef(resource_id=principal.resource_id), principal=False)
    return found if found.exists else None


def _account_document(
    account: Account,
    identity: Identity | None,
    tenant_id: str,
    credentials: Sequence[FederatedCredential],
    trusting: Sequence[FederatedCredential],
) -> dict[str, Any]:
    known = [(one, True) for one in trusting]
    found = credentials_document(identity, tenant_id, known) if identity else {"identity": None, "credentials": []}
    if identity:
        found["quota"] = found["quota"] | {"used": len(credentials)}
    return {
        "serviceAccount": {
            "namespace": account.namespace,
            "name": account.name,
            "annotations": dict(account.annotations),
            "managers": {name: list(owners) for name, owners in account.owners.items()},
        },
        **found,
    }


def _print_account(
    account: Account,
    identity: Identity | None,
    credentials: Sequence[FederatedCredential],
    trusting: Sequence[FederatedCredential],
) -> None:
    click.echo(f"Service account {account.namespace}/{account.name}")
    for name, value in sorted(account.annotations.items()):
        owners = " and ".join(account.owners.get(name, ())) or "nobody"
        click.echo(f"  {name.removeprefix(PREFIX)}: {value} (managed by {owners})")
    if identity is None:
        reason = "its client-id belongs to nobody in this tenant" if account.annotations else "it has no client-id"
        click.echo(f"No identity: {reason}.")
        return
    kind = "Managed identity" if identity.ref.managed else "Application"
    click.echo(f"{kind} {identity.title}, client id {identity.client_id}")
    click.echo(f"  {quota_line(identity, len(credentials))}")
    if not trusting:
        click.echo("No federated credential trusts it: add one with azwi credential add.")
        return
    click.echo("Federated credentials that trust it")
    for one in trusting:
        click.echo(f"  {one.name}: issuer {one.issuer}, audience {' '.join(one.audiences)}")


async def find_accounts(
    services: Services, credentials: Sequence[FederatedCredential]
) -> list[tuple[FederatedCredential, bool | None]]:
    """Each credential, and whether its service account is there; None where the cluster is another or not reached."""
    try:
        issuer = await services.accounts().read_issuer()
    except (ClusterError, ConfigurationError):
        return [(one, None) for one in credentials]
    found: list[tuple[FederatedCredential, bool | None]] = []
    for one in credentials:
        account = account_of(one.subject)
        ours = account is not None and issuer in {"", one.issuer}
        found.append((one, await account_exists(services, *account) if ours and account else None))
    return found


def print_credentials(
    identity: Identity, tenant_id: str, found: list[tuple[FederatedCredential, bool | None]], output: str
) -> None:
    """The credentials of an identity, as a table with its quota, or as a document."""
    if output != "table":
        print_document({"command": "credential list"} | credentials_document(identity, tenant_id, found), output)
        return
    print_table(credential_rows(found))
    click.echo(quota_line(identity, len(found)))
