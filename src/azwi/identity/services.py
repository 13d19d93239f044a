"""The outside world as this room uses it: Graph, Resource Manager, a cluster, and one identity of either kind."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from azwi.entra.refusals import EXISTS_CODES, SAME_TRUST_CODES, ServiceError
from azwi.errors import ClusterError
from azwi.identity.model import Identity, OrderError, Phase
from azwi.identity.values import ANY_SUBSCRIPTION
from azwi.version import GIT_COMMIT, __version__

if TYPE_CHECKING:
    from collections.abc import Callable

    from azwi.cluster.annotations import AccountWriter
    from azwi.entra.arm import ResourceManager
    from azwi.entra.federation import FederatedCredential
    from azwi.entra.graph import ApplicationRecord, Graph
    from azwi.identity.model import IdentityRef

_NONE: frozenset[Phase] = frozenset()


@dataclass(frozen=True, slots=True)
class Services:
    """Where things are asked and done.

    Attributes:
        graph: Microsoft Graph.
        resource_manager: Azure Resource Manager.
        accounts: Connects to the cluster when it is called first; raises a ClusterError or ConfigurationError.
        tenant_id: The directory.
        subscription_id: The Azure subscription; may be empty where none is needed.
    """

    graph: Graph
    resource_manager: ResourceManager
    accounts: Callable[[], AccountWriter]
    tenant_id: str
    subscription_id: str


# --- Identities -----------------------------------------------------------------------------------------


async def settle_subscription(services: Services, ref: IdentityRef) -> IdentityRef:
    """The reference with its subscription, where nobody named one: the only one that there is.

    Raises:
        OrderError: There are several, or none.
        ServiceError: Resource Manager refuses.
    """
    if ANY_SUBSCRIPTION not in ref.resource_id:
        return ref
    found = await services.resource_manager.list_subscriptions()
    if len(found) != 1:
        listed = ", ".join(f"{one.subscription_id} ({one.name})" for one in found) or "none"
        raise OrderError(
            f"--subscription-id is required with --identity-name: whoever signed in sees {len(found)} subscriptions",
            hint=f"give one of: {listed}",
        )
    path = ref.resource_id.replace(ANY_SUBSCRIPTION, found[0].subscription_id)
    return replace(ref, resource_id=path)


async def find_identity(services: Services, ref: IdentityRef, *, principal: bool, application: bool = True) -> Identity:
    """The identity that is meant, as far as it is there.

    Args:
        services: The outside world.
        ref: Which one.
        principal: Whether its principal is needed.
        application: Whether an application's own ids are needed; else what the reference holds suffices.

    Raises:
        OrderError: Several applications or principals have the name.
        ServiceError: A service refuses.
    """
    if ref.managed:
        record = await services.resource_manager.read_identity(ref.resource_id)
        if record is None:
            return Identity(ref)
        return Identity(ref, record.client_id, principal_id=record.principal_id, own=record.own)
    identity = Identity(ref, ref.client_id, ref.object_id, ref.principal_id)
    if application and not (ref.client_id and ref.object_id):
        found = await _find_application(services.graph, ref)
        identity = replace(identity, client_id="", object_id="")
        if found is not None:
            identity = replace(identity, client_id=found.client_id, object_id=found.object_id, name=found.display_name)
    if principal and not identity.principal_id:
        identity = replace(identity, principal_id=await _find_principal(services.graph, ref, identity.client_id))
    return identity


async def _find_application(graph: Graph, ref: IdentityRef) -> ApplicationRecord | None:
    if ref.object_id:
        return await graph.read_application(ref.object_id)
    if ref.client_id:
        return await graph.find_application_by_client_id(ref.client_id)
    found = await graph.find_applications(ref.name)
    if len(found) > 1:
        ids = ", ".join(one.object_id for one in found)
        raise OrderError(
            f"{len(found)} applications are called {ref.name!r}: {ids}",
            hint="name one by --aad-application-object-id or --aad-application-client-id, or delete the others",
        )
    return found[0] if found else None


async def _find_principal(graph: Graph, ref: IdentityRef, client_id: str) -> str:
    """The object id of the service principal, by its application where that is known; empty where there is none."""
    if client_id:
        record = await graph.find_principal(client_id)
        return record.object_id if record else ""
    found = await graph.find_principals_by_name(ref.principal_name) if ref.principal_name else []
    if len(found) > 1:
        ids = ", ".join(one.object_id for one in found)
        raise OrderError(
            f"{len(found)} service principals are called {ref.principal_name!r}: {ids}",
            hint="name one by --service-principal-object-id",
        )
    return found[0].object_id if found else ""


async def create_application(services: Services, ref: IdentityRef) -> Identity:
    """A new application of that name, without a principal."""
    record = await services.graph.create_application(ref.name)
    return Identity(ref, record.client_id, record.object_id)


async def create_principal(services: Services, identity: Identity) -> tuple[Identity, bool]:
    """The identity with a service principal, and whether that is new."""
    tag = f"azwi version: {__version__}, commit: {GIT_COMMIT}"
    record = await services.graph.create_principal(identity.client_id, tag)
    if record is not None:
        return replace(identity, principal_id=record.object_id), True
    return replace(
        identity, principal_id=await _find_principal(services.graph, identity.ref, identity.client_id)
    ), False


async def create_managed_identity(services: Services, ref: IdentityRef) -> tuple[Identity, bool]:
    """The managed identity, and whether it is new."""
    location = ref.location
    if not location:
        _, _, subscription, _, group, *_ = ref.resource_id.split("/")
        location = await services.resource_manager.read_group_location(subscription, group)
    record, new = await services.resource_manager.create_identity(ref.resource_id, location)
    return Identity(ref, record.client_id, principal_id=record.principal_id, own=record.own), new


async def delete_identity(services: Services, identity: Identity) -> bool:
    """Delete an application or a managed identity; False where it was gone."""
    if identity.ref.managed:
        return await services.resource_manager.delete_identity(identity.ref.resource_id)
    return await services.graph.delete_application(identity.object_id)


# --- Their credentials ----------------------------------------------------------------------------------


async def list_credentials(
    services: Services, identity: Identity, *, awaiting: bool = False
) -> tuple[FederatedCredential, ...]:
    """The federated credentials of an identity that is there."""
    if identity.ref.managed:
        return tuple(await services.resource_manager.list_credentials(identity.ref.resource_id, awaiting=awaiting))
    return tuple(await services.graph.list_credentials(identity.object_id, awaiting=awaiting))


async def put_credential(services: Services, identity: Identity, credential: FederatedCredential) -> bool:
    """Add a credential, or give an existing one these values; False where somebody had done that already.

    Raises:
        ServiceError: It is refused; also where another credential is in its way.
    """
    if identity.ref.managed:
        new = await services.resource_manager.put_credential(identity.ref.resource_id, credential)
        return new or bool(credential.identifier)
    if credential.identifier:
        await services.graph.change_credential(identity.object_id, credential)
        return True
    try:
        await services.graph.add_credential(identity.object_id, credential)
    except ServiceError as problem:
        if not problem.refusal.means(EXISTS_CODES | SAME_TRUST_CODES):
            raise
        there = await list_credentials(services, identity)
        same = any((one.trusted, one.audiences) == (credential.trusted, credential.audiences) for one in there)
        # A name that is taken and not listed is one that is not known everywhere yet; a bad value is only bad.
        if not same and (there or not problem.refusal.means(EXISTS_CODES)):
            raise
        return False
    return True


async def remove_credential(services: Services, identity: Identity, credential: FederatedCredential) -> bool:
    """Remove a credential; False where it was gone."""
    if identity.ref.managed:
        return await services.resource_manager.remove_credential(identity.ref.resource_id, credential)
    return await services.graph.remove_credential(identity.object_id, credential)


# --- The cluster ----------------------------------------------------------------------------------------


async def account_exists(services: Services, namespace: str, name: str) -> bool | None:
    """Whether a service account is there; None where the cluster cannot be asked or does not say."""
    try:
        return await services.accounts().read(namespace, name) is not None
    except ClusterError:
        return None
