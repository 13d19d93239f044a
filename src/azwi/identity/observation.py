"""Looking at what is there: every read comes before the first write, so that a plan can be shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from azwi.entra.arm import is_own_assignment
from azwi.entra.refusals import ServiceError
from azwi.identity.model import Found, Phase, RoleFinding
from azwi.identity.services import find_identity, list_credentials

if TYPE_CHECKING:
    from collections.abc import Mapping

    from azwi.cluster.annotations import Account
    from azwi.entra.federation import FederatedCredential
    from azwi.identity.model import AccountOrder, Identity, Removal, RoleOrder, Target
    from azwi.identity.services import Services

_FORBIDDEN: Final = 403


async def observe(services: Services, target: Target) -> Found:
    """What is there of a target.

    Raises:
        OrderError: It is not clear which identity is meant.
        ServiceError: Graph or Resource Manager refuse.
        ClusterError: The cluster refuses.
    """
    phases, ref = target.phases, target.identity
    identity = await find_identity(
        services,
        ref,
        principal=bool(phases & {Phase.APPLICATION, Phase.ROLE_ASSIGNMENT}) and not ref.managed,
        application=_needs_application(target),
    )
    credentials: tuple[FederatedCredential, ...] = ()
    if Phase.FEDERATED_IDENTITY in phases and identity.exists:
        credentials = await list_credentials(services, identity, awaiting=True)
    accounts: dict[tuple[str, str], Account | None] = {}
    if Phase.SERVICE_ACCOUNT in phases:
        accounts = await _read_accounts(services, target.accounts)
    roles: Mapping[RoleOrder, RoleFinding] = {}
    if Phase.ROLE_ASSIGNMENT in phases:
        roles = {order: await _find_role(services, order, identity) for order in target.roles}
    return Found(identity, credentials, accounts, roles)


def _needs_application(target: Target) -> bool:
    """Whether an application must be looked up, or what was given says enough."""
    ref, phases = target.identity, target.phases
    client_id = Phase.SERVICE_ACCOUNT in phases and not ref.client_id
    object_id = Phase.FEDERATED_IDENTITY in phases and not ref.object_id
    principal = Phase.ROLE_ASSIGNMENT in phases and not (ref.principal_id or ref.principal_name)
    return Phase.APPLICATION in phases or client_id or object_id or principal


async def _read_accounts(
    services: Services, accounts: tuple[AccountOrder, ...]
) -> dict[tuple[str, str], Account | None]:
    writer = services.accounts()
    return {(one.namespace, one.name): await writer.read(one.namespace, one.name) for one in accounts}


async def _find_role(services: Services, order: RoleOrder, identity: Identity) -> RoleFinding:
    definition = await services.resource_manager.find_role(order.scope, order.role)
    if not identity.principal_id:
        return RoleFinding(definition, assigned=False)
    try:
        there = await services.resource_manager.list_assignments(order.scope, identity.principal_id)
    except ServiceError as problem:
        if problem.refusal.status != _FORBIDDEN and not problem.refusal.not_found:
            raise
        there = []  # who may assign may not always read; the service says whether it was there
    wanted = (order.scope.rstrip("/").lower(), definition.rpartition("/")[2].lower())
    has = {(one.scope.rstrip("/").lower(), one.role_definition_id.rpartition("/")[2].lower()) for one in there}
    return RoleFinding(definition, assigned=wanted in has)


async def observe_removal(services: Services, removal: Removal) -> Found:
    """What is there of what is to go; raises as `observe`."""
    phases, ref = removal.phases, removal.identity
    looked_up = {Phase.APPLICATION, Phase.MANAGED_IDENTITY, Phase.FEDERATED_IDENTITY}
    identity = await find_identity(services, ref, principal=False, application=bool(phases & looked_up))
    credentials: tuple[FederatedCredential, ...] = ()
    if identity.exists and phases & looked_up:
        credentials = await _list_what_may_be_gone(services, identity)
    accounts: dict[tuple[str, str], Account | None] = {}
    if removal.account is not None and Phase.SERVICE_ACCOUNT in phases:
        accounts = await _read_accounts(services, (removal.account,))
    return Found(identity, credentials, accounts, assignments=await _own_assignments(services, removal, identity))


async def _list_what_may_be_gone(services: Services, identity: Identity) -> tuple[FederatedCredential, ...]:
    try:
        return await list_credentials(services, identity)
    except ServiceError as problem:
        if problem.refusal.not_found:
            return ()
        raise


async def _own_assignments(services: Services, removal: Removal, identity: Identity) -> tuple[str, ...]:
    """Those that azwi made for a managed identity that it also made, beside one that is named by itself."""
    if not (removal.identity.managed and identity.own and Phase.ROLE_ASSIGNMENT in removal.phases):
        return ()
    scope = "/".join(removal.identity.resource_id.split("/")[:3])
    there = await services.resource_manager.list_assignments(scope, identity.principal_id)
    named = removal.assignment.lower()
    return tuple(one.identifier for one in there if is_own_assignment(one) and one.identifier.lower() != named)
