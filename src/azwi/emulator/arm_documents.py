"""The documents of the emulated Resource Manager. Pure; for its sources see `arm`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from azwi.emulator.directory import (
        Application,
        FederatedCredential,
        ResourceGroup,
        RoleAssignment,
        Subscription,
        Tenant,
    )
    from azwi.emulator.keys import JsonObject

# Microsoft Learn, "Azure built-in roles".
BUILT_IN_ROLES: Final = {
    "Owner": "8e3af657-a8ff-443c-a75c-2fe8c4bcb635",
    "Contributor": "b24988ac-6180-42a0-ab88-20f7382dd24c",
    "Reader": "acdd72a7-3385-48ef-bd42-f606fba81ae7",
    "Key Vault Secrets User": "4633458b-17de-408a-b874-0445c86b69e6",
    "Managed Identity Contributor": "e40ec5ca-96e0-45a2-b4ff-59039f2c2b59",
    "Storage Blob Data Contributor": "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
    "Storage Blob Data Reader": "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1",
}


def render_subscription(one: Subscription, tenant: Tenant) -> JsonObject:
    """A subscription."""
    return {
        "id": f"/subscriptions/{one.subscription_id}",
        "subscriptionId": one.subscription_id,
        "tenantId": tenant.tenant_id,
        "displayName": one.subscription_id,
        "state": "Enabled",
    }


def render_identity(one: Application, tenant: Tenant) -> JsonObject:
    """A user-assigned managed identity."""
    return {
        "id": one.resource_id,
        "name": one.display_name,
        "type": "Microsoft.ManagedIdentity/userAssignedIdentities",
        "location": one.location,
        "tags": dict(tag.split("=", 1) for tag in one.tags),
        "properties": {"tenantId": tenant.tenant_id, "principalId": one.object_id, "clientId": one.client_id},
    }


def render_credential(identity: Application, one: FederatedCredential, *, flexible: bool) -> JsonObject:
    """A federated credential of a managed identity, for a version of the API that knows expressions or not."""
    properties: JsonObject = {"issuer": one.issuer, "audiences": [one.audience]}
    if one.expression and flexible:
        properties["claimsMatchingExpression"] = {"value": one.expression, "languageVersion": 1}
    elif not one.expression:
        properties["subject"] = one.subject
    return {
        "id": f"{identity.resource_id}/federatedIdentityCredentials/{one.name}",
        "name": one.name,
        "type": "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials",
        "properties": properties,
    }


def render_assignment(one: RoleAssignment) -> JsonObject:
    """A role assignment."""
    return {
        "id": f"{one.scope.rstrip('/')}/providers/Microsoft.Authorization/roleAssignments/{one.name}",
        "name": one.name,
        "type": "Microsoft.Authorization/roleAssignments",
        "properties": {
            "scope": one.scope,
            "roleDefinitionId": one.role_definition_id,
            "principalId": one.principal_id,
            "principalType": "ServicePrincipal",
        },
    }


def render_group(subscription: Subscription, group: ResourceGroup) -> JsonObject:
    """A resource group."""
    path = f"/subscriptions/{subscription.subscription_id}/resourceGroups/{group.name}"
    return {"id": path, "name": group.name, "location": group.location, "type": "Microsoft.Resources/resourceGroups"}


def render_role(subscription: Subscription, name: str) -> JsonObject:
    """A built-in role, as it is seen in a subscription, or without one."""
    prefix = f"/subscriptions/{subscription.subscription_id}" if subscription.subscription_id else ""
    return {
        "id": f"{prefix}/providers/Microsoft.Authorization/roleDefinitions/{BUILT_IN_ROLES[name]}",
        "name": BUILT_IN_ROLES[name],
        "type": "Microsoft.Authorization/roleDefinitions",
        "properties": {"roleName": name, "type": "BuiltInRole", "assignableScopes": ["/"]},
    }
