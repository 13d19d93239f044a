"""What the commands of `azwi credential` do, from their options to an exit code."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from azwi.cli.creation import identity_ref
from azwi.cli.output import Progress, print_document
from azwi.cli.request import Request
from azwi.cli.session import check_options, open_session, read_cluster_issuer
from azwi.cli.show import find_accounts, print_credentials
from azwi.cli.work import Work, ask
from azwi.entra.federation import FederatedCredential
from azwi.identity.credentials import plan_sync
from azwi.identity.manifest import account_credential
from azwi.identity.model import AccountOrder, Action, Found, Identity, OrderError, Phase, Step, Thing
from azwi.identity.names import subject_of
from azwi.identity.plan import credential_deletion, plan_credentials
from azwi.identity.services import find_identity, list_credentials, settle_subscription
from azwi.identity.values import is_credential_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from azwi.cli.options import SignInOptions
    from azwi.cli.session import SignInPlan
    from azwi.identity.model import IdentityRef

_REQUEST = {one.name for one in fields(Request)}


async def list_trust(options: SignInOptions, values: dict[str, Any]) -> int:
    """List the credentials of an identity.

    Raises:
        AzwiError: The identity is not there, or something refuses.
    """
    checked = check_options(options)
    ref = _identity_ref(checked, values)
    async with open_session(options, checked) as session:
        ref = await settle_subscription(session.services, ref)
        identity = await find_identity(session.services, ref, principal=False)
        _require(identity)
        there = await list_credentials(session.services, identity)
        found = await find_accounts(session.services, there)
    print_credentials(identity, session.services.tenant_id, found, values["output"])
    return 0


async def add_trust(options: SignInOptions, values: dict[str, Any]) -> int:
    """Add a credential; raises as `list_trust`."""
    checked = check_options(options)
    ref = _identity_ref(checked, values)
    if values["service_account_name"]:
        issuer = values["service_account_issuer_url"] or await read_cluster_issuer(options)
        values = values | {"service_account_issuer_url": issuer}
    wanted = _read_credential(values, managed=ref.managed)

    def plan(there: tuple[FederatedCredential, ...]) -> list[Step]:
        return plan_credentials((wanted,), there, ref.title)

    return await _change(options, checked, "add", values, ref, plan)


async def remove_trust(options: SignInOptions, values: dict[str, Any]) -> int:
    """Remove a credential; raises as `list_trust`."""
    checked = check_options(options)
    ref = _identity_ref(checked, values)
    name, subject, issuer = values["name"], _subject(values), values["service_account_issuer_url"]
    if not name and not (subject and issuer):
        raise OrderError("give --name, or --service-account-name and --service-account-issuer-url")

    def plan(there: tuple[FederatedCredential, ...]) -> list[Step]:
        wanted = [
            one
            for one in there
            if name.lower() in {"", one.name.lower()} and subject in {"", one.subject} and issuer in {"", one.issuer}
        ]
        missing = Step(Phase.FEDERATED_IDENTITY, Thing.CREDENTIAL, Action.ABSENT, name or subject, warning=True)
        return [credential_deletion(one) for one in wanted] or [missing]

    return await _change(options, checked, "remove", values, ref, plan, "Remove it?")


async def sync_trust(options: SignInOptions, values: dict[str, Any]) -> int:
    """Move credentials from one issuer to another; raises as `list_trust`."""
    checked = check_options(options)
    ref = _identity_ref(checked, values)
    source, destination, in_place = values["from_issuer"], values["to_issuer"], values["in_place"]

    def plan(there: tuple[FederatedCredential, ...]) -> list[Step]:
        return plan_sync(there, source, destination, ref.title, managed=ref.managed, in_place=in_place)

    return await _change(options, checked, "sync", values, ref, plan, "Move them?")


async def _change(
    options: SignInOptions,
    checked: SignInPlan,
    verb: str,
    values: dict[str, Any],
    ref: IdentityRef,
    plan: Callable[[tuple[FederatedCredential, ...]], list[Step]],
    question: str = "",
) -> int:
    """Look, show the plan, ask where something goes, and carry it out."""
    progress = Progress()
    async with open_session(options, checked) as session:
        ref = await settle_subscription(session.services, ref)
        identity = await find_identity(session.services, ref, principal=False)
        _require(identity)
        there = await list_credentials(session.services, identity)
        work = Work(session, Found(identity, there), plan(there), ())
        progress.plan(f"Plan for {ref.title}", work.steps)
        try:
            if not values["dry_run"]:
                if question:
                    ask([work], question, yes=values["yes"], required=True)
                await work.run(progress)
        finally:
            if values["output"] != "table":
                about = {"command": f"credential {verb}", "dryRun": values["dry_run"]}
                print_document(about | work.document(), values["output"])
    return 0


def _identity_ref(checked: SignInPlan, values: dict[str, Any]) -> IdentityRef:
    request = Request(**{name: value for name, value in values.items() if name in _REQUEST})
    # A service account's name makes no application's name here: the identity must be given.
    named = replace(request, service_account_name="")
    ref = identity_ref(named, checked.subscription_id)
    if not ref.title:
        raise OrderError(
            "no identity is named",
            hint="give --aad-application-name, --aad-application-client-id, --aad-application-object-id, "
            "--identity-name with --resource-group, or --identity-resource-id",
        )
    return ref


def _require(identity: Identity) -> None:
    if not identity.exists:
        what = Thing.MANAGED_IDENTITY if identity.ref.managed else Thing.APPLICATION
        raise OrderError(f"{what} {identity.ref.title!r} does not exist")


def _subject(values: dict[str, Any]) -> str:
    """Whom the options name; empty where they name nobody."""
    name = values["service_account_name"]
    if name and values["subject"]:
        raise OrderError("--service-account-name and --subject exclude each other")
    return subject_of(values["service_account_namespace"], name) if name else str(values["subject"])


def _read_credential(values: dict[str, Any], *, managed: bool) -> FederatedCredential:
    subject, expression = _subject(values), str(values["claims_matching_expression"])
    issuer, audience, name = values["service_account_issuer_url"], values["audience"], values["name"]
    if name and not is_credential_name(name):
        raise OrderError(f"--name: {name!r} must be 3 to 120 letters, digits, - and _, the first no - or _")
    if not issuer:
        raise OrderError("--service-account-issuer-url is required")
    if bool(subject) == bool(expression):
        raise OrderError("give one of --service-account-name, --subject and --claims-matching-expression")
    if values["service_account_name"]:
        account = AccountOrder(values["service_account_namespace"], values["service_account_name"])
        made = account_credential(account, issuer, audience, managed=managed)
        return replace(made, name=name) if name else made
    if not name:
        raise OrderError("--name is required with --subject and with --claims-matching-expression")
    return FederatedCredential(name, issuer, subject, (audience,), expression=expression)
