"""Azure Resource Manager: managed identities, their federated credentials, roles, and a subscription's tenant.

Source: Azure REST API reference, "Managed Identity" 2023-01-31, "Authorization" 2022-04-01, "Resources" 2022-12-01.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import httpx2

from azwi.entra.federation import FederatedCredential, read_credential, render_credential
from azwi.entra.graph import quote
from azwi.entra.members import required, section, text
from azwi.entra.refusals import EXISTS_CODES, ServiceError
from azwi.entra.rest import send_patiently
from azwi.errors import EntraError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from azwi.entra.rest import Patience, RestClient

SERVICE: Final = "Azure Resource Manager"
_IDENTITIES: Final = {"api-version": "2023-01-31"}
_FLEXIBLE: Final = {"api-version": "2025-01-31-preview"}
_AUTHORIZATION: Final = {"api-version": "2022-04-01"}
_RESOURCES: Final = {"api-version": "2022-12-01"}
_UNAUTHORIZED: Final = 401
_CREATED: Final = 201
_NO_CONTENT: Final = 204
_OWN_TAG: Final = {"created-by": "azwi"}
_OWN_ASSIGNMENTS: Final = uuid.UUID("6a5b0f6e-6c0c-4a5c-9d5a-3f0a3a1f4c55")  # arbitrary, and never to change
_GUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_TENANT: Final = re.compile(rf'authorization(?:_uri)?="?https?://[^/"]+/({_GUID.pattern})', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SubscriptionRecord:
    """A subscription; its name is for people."""

    subscription_id: str
    name: str


@dataclass(frozen=True, slots=True)
class ManagedIdentityRecord:
    """A user-assigned managed identity; `resource_id` is its path."""

    resource_id: str
    name: str
    location: str
    client_id: str
    principal_id: str
    own: bool = False  # made by azwi, by its tag


@dataclass(frozen=True, slots=True)
class RoleAssignmentRecord:
    """Who may do what where; `identifier` is its path."""

    identifier: str
    scope: str
    role_definition_id: str
    principal_id: str


class ResourceManager:
    """What azwi asks of Resource Manager. Every method raises ServiceError for a refusal it does not name."""

    def __init__(self, rest: RestClient) -> None:
        self._rest = rest

    # --- Subscriptions ----------------------------------------------------------------------------------

    async def list_subscriptions(self) -> list[SubscriptionRecord]:
        """Those that whoever signed in can see and use."""
        found = [one async for one in self._rest.items("/subscriptions", _subscription, query=_RESOURCES)]
        return sorted(found, key=lambda one: one.name)

    # --- Managed identities -----------------------------------------------------------------------------

    async def read_identity(self, resource_id: str) -> ManagedIdentityRecord | None:
        """The identity at that path; None where it is not there."""
        try:
            reply = await self._rest.request("GET", resource_id, query=_IDENTITIES)
        except ServiceError as problem:
            if problem.refusal.not_found:
                return None
            raise
        return reply.read(_identity)

    async def create_identity(self, resource_id: str, location: str) -> tuple[ManagedIdentityRecord, bool]:
        """The identity at that path, and whether it is new; one that is there stays as it is."""
        reply = await self._rest.request(
            "PUT", resource_id, query=_IDENTITIES, body={"location": location, "tags": _OWN_TAG}
        )
        return reply.read(_identity), reply.status == _CREATED

    async def delete_identity(self, resource_id: str) -> bool:
        """Delete it with its credentials; False where it was gone."""
        return await self._delete(resource_id, _IDENTITIES)

    async def read_group_location(self, subscription: str, group: str) -> str:
        """Where a resource group is."""
        path = f"/subscriptions/{subscription}/resourceGroups/{group}"
        reply = await self._rest.request("GET", path, query=_RESOURCES)
        return reply.read(lambda group: required(group, "location"))

    # --- Their federated credentials --------------------------------------------------------------------

    async def list_credentials(self, resource_id: str, *, awaiting: bool = False) -> list[FederatedCredential]:
        """Those of an identity; `awaiting` as it was created a moment ago."""
        path = f"{resource_id}/federatedIdentityCredentials"
        listed = self._rest.items(path, read_credential, query=_IDENTITIES, awaiting=awaiting)
        found = [one async for one in listed]
        if all(one.subject for one in found):
            return found
        # This version has no expressions: the flexible ones are seen whole in the preview only.
        return [one async for one in self._rest.items(path, read_credential, query=_FLEXIBLE)]

    async def put_credential(self, resource_id: str, credential: FederatedCredential) -> bool:
        """Make the credential of that name what it should be, on an identity that may be known only in a moment.

        Gives whether it is new.
        """
        query = _FLEXIBLE if credential.expression else _IDENTITIES
        path = f"{resource_id}/federatedIdentityCredentials/{credential.name}"
        body = {"properties": render_credential(credential)}
        return (await self._rest.request("PUT", path, query=query, body=body, awaiting=True)).status == _CREATED

    async def remove_credential(self, resource_id: str, credential: FederatedCredential) -> bool:
        """Remove one; False where it was gone."""
        return await self._delete(f"{resource_id}/federatedIdentityCredentials/{credential.name}", _IDENTITIES)

    # --- Roles ------------------------------------------------------------------------------------------

    async def find_role(self, scope: str, role: str) -> str:
        """The id of the definition that a role name, GUID or id means at a scope.

        Raises:
            EntraError: There is none of that name.
        """
        if role.startswith("/"):
            return role
        definitions = "/providers/Microsoft.Authorization/roleDefinitions"
        if _GUID.fullmatch(role):
            return f"{definitions}/{role}"
        query = _AUTHORIZATION | {"$filter": f"roleName eq {quote(role)}"}
        path = scope.rstrip("/") + definitions
        async for identifier in self._rest.items(path, lambda one: required(one, "id"), query=query):
            return identifier
        raise EntraError(
            f"there is no role {role!r} at {scope}", hint="give --azure-role as its exact name, GUID or resource id"
        )

    async def list_assignments(self, scope: str, principal_id: str) -> list[RoleAssignmentRecord]:
        """The role assignments of a principal at a scope and below it."""
        query = _AUTHORIZATION | {"$filter": f"principalId eq {quote(principal_id)}"}
        path = f"{scope.rstrip('/')}/providers/Microsoft.Authorization/roleAssignments"
        return [one async for one in self._rest.items(path, _assignment, query=query)]

    async def assign_role(self, scope: str, role_definition_id: str, principal_id: str) -> str:
        """The id of the new assignment; empty where the principal has the role there already."""
        name = assignment_name(scope, role_definition_id, principal_id)
        path = f"{scope.rstrip('/')}/providers/Microsoft.Authorization/roleAssignments/{name}"
        properties = {
            "roleDefinitionId": role_definition_id,
            "principalId": principal_id,
            # Without it the service looks the principal up in a directory that may not know it yet.
            "principalType": "ServicePrincipal",
        }
        try:
            body = {"properties": properties}
            reply = await self._rest.request("PUT", path, query=_AUTHORIZATION, body=body, awaiting=True)
        except ServiceError as problem:
            if problem.refusal.means(EXISTS_CODES):
                return ""
            raise
        return text(reply.document, "id") or path if reply.status == _CREATED else ""

    async def delete_assignment(self, identifier: str) -> bool:
        """Delete one by its id; False where it was gone, which the service says with 204."""
        return await self._delete(identifier, _AUTHORIZATION)

    async def _delete(self, path: str, query: Mapping[str, str]) -> bool:
        try:
            reply = await self._rest.request("DELETE", path, query=query)
        except ServiceError as problem:
            if problem.refusal.not_found:
                return False
            raise
        return reply.status != _NO_CONTENT


def assignment_name(scope: str, role_definition_id: str, principal_id: str) -> str:
    """The name azwi gives to an assignment: the same every time, so running twice makes one."""
    role = role_definition_id.rpartition("/")[2]
    return str(uuid.uuid5(_OWN_ASSIGNMENTS, "|".join((scope.rstrip("/"), role, principal_id)).lower()))


def is_own_assignment(assignment: RoleAssignmentRecord) -> bool:
    """Whether azwi made it."""
    expected = assignment_name(assignment.scope, assignment.role_definition_id, assignment.principal_id)
    return assignment.identifier.rpartition("/")[2].lower() == expected


async def discover_tenant(
    http: httpx2.AsyncClient, resource_manager: str, subscription: str, patience: Patience | None = None
) -> str:
    """The tenant of a subscription, which Resource Manager names to whoever asks without a token.

    Raises:
        ServiceError: It cannot be asked, or fails.
        EntraError: It does not say.
    """
    path = f"/subscriptions/{subscription}"
    answer = await send_patiently(
        http, SERVICE, httpx2.Request("GET", resource_manager.rstrip("/") + path, params=_RESOURCES), patience
    )
    found = _TENANT.search(answer.headers.get("www-authenticate", ""))
    if answer.status_code != _UNAUTHORIZED or found is None:
        raise EntraError(
            f"the tenant of subscription {subscription} is not known at {resource_manager}",
            hint="check --subscription-id and --azure-env, or name the tenant with --tenant-id",
        )
    return found[1].lower()


def _subscription(document: Mapping[str, Any]) -> SubscriptionRecord:
    return SubscriptionRecord(required(document, "subscriptionId"), text(document, "displayName"))


def _identity(document: Mapping[str, Any]) -> ManagedIdentityRecord:
    properties, resource_id = section(document, "properties"), required(document, "id")
    return ManagedIdentityRecord(
        resource_id=resource_id,
        name=text(document, "name") or resource_id.rpartition("/")[2],
        location=text(document, "location"),
        client_id=required(properties, "clientId"),
        principal_id=required(properties, "principalId"),
        own=_OWN_TAG.items() <= section(document, "tags").items(),
    )


def _assignment(document: Mapping[str, Any]) -> RoleAssignmentRecord:
    properties = section(document, "properties")
    return RoleAssignmentRecord(
        required(document, "id"),
        text(properties, "scope"),
        text(properties, "roleDefinitionId"),
        text(properties, "principalId"),
    )
