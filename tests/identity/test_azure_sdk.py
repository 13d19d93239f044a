"""Microsoft's own SDK for Resource Manager against the emulator, and against what azwi made: both read the same."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.identity import ClientSecretCredential
from azure.mgmt.authorization import AuthorizationManagementClient
from azure.mgmt.msi import ManagedServiceIdentityClient
from identity_lab import GROUP, IDENTITY, OPERATOR, SECRET, SUBSCRIPTION, TENANT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from identity_lab import Lab

TRUST = {"issuer": "https://i.example", "subject": "s", "audiences": ["a"]}


class Sdk:
    """Both clients, signed in as the operator."""

    def __init__(self, lab: Lab) -> None:
        trust = {"connection_verify": lab.emulator.ca_file}
        self.credential = ClientSecretCredential(
            TENANT, OPERATOR, SECRET, authority=lab.emulator.authority, disable_instance_discovery=True, **trust
        )
        base = lab.emulator.resource_manager
        where: dict[str, Any] = {"base_url": base, "credential_scopes": [base + "/.default"], **trust}
        self.identities = ManagedServiceIdentityClient(self.credential, SUBSCRIPTION, **where)
        self.roles = AuthorizationManagementClient(self.credential, SUBSCRIPTION, **where)

    def close(self) -> None:
        """Close all connections."""
        for one in (self.identities, self.roles, self.credential):
            one.close()


@pytest.fixture
def sdk(lab: Lab) -> Iterator[Sdk]:
    """The SDK."""
    made = Sdk(lab)
    yield made
    made.close()


def test_what_azwi_made_is_read_by_the_sdk(lab: Lab, sdk: Sdk) -> None:
    """Identity, credential and role, with all their members."""
    role = ("--azure-role=Reader", f"--azure-scope={GROUP}")
    assert 0 == lab.run("sa", "create", *lab.account(), *IDENTITY, *role)
    identity = sdk.identities.user_assigned_identities.get("shop", "orders")
    assert ("westeurope", {"created-by": "azwi"}) == (identity.location, identity.tags)
    assert lab.cluster.annotations("shop", "orders")["client-id"] == identity.client_id
    (credential,) = sdk.identities.federated_identity_credentials.list("shop", "orders")
    assert (lab.emulator.issuer, "system:serviceaccount:shop:orders", ["api://AzureADTokenExchange"]) == (
        credential.issuer,
        credential.subject,
        credential.audiences,
    )
    (assignment,) = sdk.roles.role_assignments.list_for_scope(GROUP, filter=f"principalId eq '{identity.principal_id}'")
    assert (GROUP, identity.principal_id) == (assignment.scope, assignment.principal_id)


def test_what_the_sdk_made_is_kept_by_azwi(lab: Lab, sdk: Sdk) -> None:
    """Its identity, its role under another name, its credential under another name."""
    identity = sdk.identities.user_assigned_identities.create_or_update("shop", "orders", {"location": "westeurope"})
    trust = TRUST | {"issuer": lab.emulator.issuer, "subject": "system:serviceaccount:shop:orders"}
    wanted = trust | {"audiences": ["api://AzureADTokenExchange"]}
    sdk.identities.federated_identity_credentials.create_or_update("shop", "orders", "by-hand", {"properties": wanted})
    (reader,) = sdk.roles.role_definitions.list(GROUP, filter="roleName eq 'Reader'")
    parameters = {
        "properties": {
            "roleDefinitionId": reader.id,
            "principalId": identity.principal_id,
            "principalType": "ServicePrincipal",
        }
    }
    sdk.roles.role_assignments.create(GROUP, str(uuid.uuid4()), parameters)
    before = lab.count_writes()
    role = ("--azure-role=Reader", f"--azure-scope={GROUP}")
    assert 0 == lab.run("sa", "create", *lab.account(), *IDENTITY, *role)
    assert before + 1 == lab.count_writes()  # the service account's annotations
    assert 0 == lab.run("sa", "delete", *lab.account(), *IDENTITY)
    assert [] == list(sdk.identities.federated_identity_credentials.list("shop", "orders"))
    assert "orders" == sdk.identities.user_assigned_identities.get("shop", "orders").name


def test_the_emulator_refuses_as_the_sdk_expects(lab: Lab, sdk: Sdk) -> None:
    """Its errors become the SDK's, by status and code; its pages are followed."""
    identities, credentials = sdk.identities.user_assigned_identities, sdk.identities.federated_identity_credentials
    with pytest.raises(ResourceNotFoundError) as missing:
        identities.get("shop", "nobody")
    assert missing.value.error is not None
    assert "ResourceNotFound" == missing.value.error.code
    identities.create_or_update("shop", "orders", {"location": "westeurope"})
    for number in range(3):
        trust = {"properties": TRUST | {"subject": f"s{number}"}}
        credentials.create_or_update("shop", "orders", f"n-{number}", trust)
    with pytest.raises((ResourceExistsError, HttpResponseError), match="combination already exists"):
        credentials.create_or_update("shop", "orders", "other", {"properties": TRUST | {"subject": "s0"}})
    lab.emulator.page(1)
    assert ["n-0", "n-1", "n-2"] == [one.name for one in credentials.list("shop", "orders")]
    identities.delete("shop", "orders")
    identities.delete("shop", "orders")
    assert [] == list(identities.list_by_resource_group("shop"))
