"""What `azwi serviceaccount create` and `delete` do, from a request to an exit code."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from azwi.cli.output import Progress, print_document
from azwi.cli.session import check_options, open_session, read_cluster_issuer
from azwi.cli.work import Work, ask, plan_target
from azwi.identity.manifest import account_credential
from azwi.identity.model import AccountOrder, IdentityRef, OrderError, Phase, Removal, RoleOrder, Target
from azwi.identity.names import application_name, compare_issuers
from azwi.identity.observation import observe_removal
from azwi.identity.phases import Given, check_create, check_delete, choose_phases
from azwi.identity.plan import plan_delete
from azwi.identity.services import settle_subscription
from azwi.identity.values import ANY_SUBSCRIPTION, is_guid, is_identity_id, resource_id_of

if TYPE_CHECKING:
    from azwi.cli.options import SignInOptions
    from azwi.cli.request import Request


async def create_account(options: SignInOptions, request: Request, phase: str) -> int:
    """Create, or run one phase of it.

    Raises:
        AzwiError: Something is missing, wrong or refused.
    """
    checked = check_options(options)
    phases = _phases(request, phase)
    progress = Progress()
    if phases & {Phase.APPLICATION, Phase.FEDERATED_IDENTITY}:
        request = await with_issuer(options, request, progress)
    if request.managed and not phase and not (request.azure_role or request.azure_scope):
        phases -= {Phase.ROLE_ASSIGNMENT}  # the reference's users must name a role, or leave the phase out
    given = _given(request, phases)
    check_create(phases, given)
    identity = identity_ref(request, checked.subscription_id)
    target = _target(request, identity, phases)
    async with open_session(options, checked) as session:
        target = replace(target, identity=await settle_subscription(session.services, identity))
        work = await plan_target(session, target)
        if {Phase.SERVICE_ACCOUNT, Phase.FEDERATED_IDENTITY} <= phases:
            actual = await session.services.accounts().read_issuer()
            if warning := compare_issuers(request.service_account_issuer_url, actual):
                progress.say(f"Warning: {warning}")
        progress.plan(f"Plan for {identity.title or 'the identity'}", work.steps)
        try:
            if not request.dry_run:
                await work.run(progress)
                if request.wait and target.accounts:
                    await work.prove(progress, lambda _: request.audience, request.wait_timeout)
        finally:
            _print(work, request, "serviceaccount create")
    return 0


async def with_issuer(options: SignInOptions, request: Request, progress: Progress) -> Request:
    """The request with the cluster's own issuer, where none is given and there is a service account to find it for."""
    if request.service_account_issuer_url or not request.service_account_name:
        return request
    issuer = await read_cluster_issuer(options)
    if issuer:
        progress.say(f"The issuer is the cluster's: {issuer}")
    return replace(request, service_account_issuer_url=issuer)


async def delete_account(options: SignInOptions, request: Request, phase: str) -> int:
    """Delete, or run one phase of it.

    Raises:
        AzwiError: Something is missing, wrong or refused.
        click.Abort: The user says no.
    """
    checked = check_options(options)
    phases = _phases(request, phase)
    progress = Progress()
    if phases & {Phase.APPLICATION, Phase.FEDERATED_IDENTITY} or request.managed:
        request = await with_issuer(options, request, progress)
    check_delete(phases, _given(request, phases))
    identity = identity_ref(request, checked.subscription_id)
    removal = Removal(
        identity=identity,
        account=_account(request),
        issuer=request.service_account_issuer_url,
        assignment=request.role_assignment_id,
        phases=phases,
        keep_account=request.keep_service_account,
    )
    async with open_session(options, checked) as session:
        removal = replace(removal, identity=await settle_subscription(session.services, identity))
        found = await observe_removal(session.services, removal)
        work = Work(session, found, plan_delete(removal, found), [one for one in (removal.account,) if one])
        progress.plan(f"Plan to delete {identity.title or request.service_account_name}", work.steps)
        try:
            if not request.dry_run:
                ask([work], "Delete all of that?", yes=request.yes)
                await work.run(progress)
        finally:
            _print(work, request, "serviceaccount delete")
    return 0


def _phases(request: Request, phase: str) -> frozenset[Phase]:
    skipped = [name for names in request.skip_phases for name in names]
    return frozenset({Phase(phase)}) if phase else choose_phases(skipped, managed=request.managed)


def _default_name(request: Request) -> str:
    """The application's name, given or made; empty where there is nothing to make it of (R 7.2)."""
    parts = (request.service_account_namespace, request.service_account_name, request.service_account_issuer_url)
    made = application_name(*parts) if all(parts) else ""
    return request.aad_application_name or made


def _given(request: Request, phases: frozenset[Phase]) -> Given:
    name = _default_name(request)
    client_id, object_id = request.aad_application_client_id, request.aad_application_object_id
    managed = request.managed or phases == {Phase.MANAGED_IDENTITY}
    if phases == {Phase.MANAGED_IDENTITY} and not request.managed:
        raise OrderError("one of --identity-name and --identity-resource-id is required")
    return Given(
        account_name=request.service_account_name,
        namespace=request.service_account_namespace,
        issuer=request.service_account_issuer_url,
        expiration=request.service_account_token_expiration,
        application_name=name,
        application_client_id=client_id,
        application_object_id=object_id,
        principal_name=request.service_principal_name or name or client_id or object_id,
        principal_id=request.service_principal_object_id,
        managed=managed,
        scope=request.azure_scope,
        role=request.azure_role,
        assignment=request.role_assignment_id,
    )


def identity_ref(request: Request, subscription: str) -> IdentityRef:
    """The identity that a request means.

    Raises:
        OrderError: Its options contradict one another, or do not name one.
    """
    resource_id = request.identity_resource_id
    applications = (request.aad_application_name, request.aad_application_client_id, request.aad_application_object_id)
    if request.managed and any(applications):
        raise OrderError("an identity is either an application or a managed identity: give options of one of them")
    if request.identity_name and resource_id:
        raise OrderError("--identity-name and --identity-resource-id exclude each other")
    if request.identity_name:
        if not request.resource_group:
            raise OrderError("--resource-group is required with --identity-name")
        where = subscription or ANY_SUBSCRIPTION
        resource_id = resource_id_of(where, request.resource_group, request.identity_name)
    if resource_id and not is_identity_id(resource_id):
        raise OrderError(
            f"--identity-resource-id: {resource_id!r} is no user-assigned managed identity",
            hint=f"it must look like {resource_id_of('SUBSCRIPTION', 'GROUP', 'NAME')}",
        )
    if resource_id:
        return IdentityRef(resource_id=resource_id, location=request.location)
    for flag, value in (
        ("--aad-application-client-id", request.aad_application_client_id),
        ("--aad-application-object-id", request.aad_application_object_id),
    ):
        if value and not is_guid(value):
            raise OrderError(f"parsing {flag}: {value!r} is no UUID")
    by_id = request.aad_application_client_id or request.aad_application_object_id
    return IdentityRef(
        name=request.aad_application_name or ("" if by_id else _default_name(request)),
        client_id=request.aad_application_client_id,
        object_id=request.aad_application_object_id,
        principal_name=request.service_principal_name,
        principal_id=request.service_principal_object_id,
    )


def _account(request: Request) -> AccountOrder | None:
    if not request.service_account_name:
        return None
    return AccountOrder(
        request.service_account_namespace, request.service_account_name, request.service_account_token_expiration
    )


def _target(request: Request, identity: IdentityRef, phases: frozenset[Phase]) -> Target:
    account = _account(request)
    target = Target(identity, phases=phases, overwrite=request.overwrite)
    if account is not None:
        credential = account_credential(
            account, request.service_account_issuer_url, request.audience, managed=identity.managed
        )
        target = replace(target, accounts=(account,), credentials=(credential,))
    return replace(target, roles=(RoleOrder(request.azure_role, request.azure_scope),))


def _print(work: Work, request: Request, command: str) -> None:
    """The result on stdout: a document, or for people who the identity is."""
    document: dict[str, Any] = {"command": command, "dryRun": request.dry_run, **work.document()}
    if request.output != "table":
        print_document(document, request.output)
        return
    identity = document["identity"]
    if identity["clientId"] and command.endswith("create"):
        click.echo(f"{identity['name']}: client id {identity['clientId']}, tenant {identity['tenantId']}")
