"""What the emulated Entra knows: tenants, applications, managed identities, federated credentials, resources.

`azwi.emulator.state` reads it from a file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

OWN_ISSUER: Final = "cluster"

# Microsoft Learn, "Azure services that support managed identities" and each service's own page.
WELL_KNOWN_RESOURCES: Final = frozenset(
    {
        "https://ai.azure.com",
        "https://api.loganalytics.io",
        "https://azconfig.io",
        "https://batch.core.windows.net",
        "https://cognitiveservices.azure.com",
        "https://containerregistry.azure.net",
        "https://cosmos.azure.com",
        "https://database.windows.net",
        "https://digitaltwins.azure.net",
        "https://eventgrid.azure.net",
        "https://eventhubs.azure.net",
        "https://graph.microsoft.com",
        "https://graph.windows.net",
        "https://iothubs.azure.net",
        "https://managedhsm.azure.net",
        "https://management.azure.com",
        "https://management.core.windows.net",
        "https://monitor.azure.com",
        "https://ossrdbms-aad.database.windows.net",
        "https://redis.azure.com",
        "https://search.azure.com",
        "https://servicebus.azure.net",
        "https://storage.azure.com",
        "https://vault.azure.net",
        "00000003-0000-0000-c000-000000000000",  # Microsoft Graph
        "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d",  # Azure Databricks
        "6dae42f8-4368-4678-94ff-3960e28e3630",  # Azure Kubernetes Service AAD Server
    }
)
# Microsoft Learn, "Authorize with Microsoft Entra ID" (Storage): one account is a resource, too.
_STORAGE_ACCOUNT: Final = re.compile(r"https://[a-z0-9]{3,24}\.(blob|dfs|file|queue|table)\.core\.windows\.net")


@dataclass(frozen=True, slots=True)
class FederatedCredential:
    """Whose tokens an identity accepts as its own; the three values are compared exactly.

    A flexible one has a claims matching `expression` in the place of the subject, which then is empty. `identifier` is
    Graph's id of it; empty for one of the state file, whose name stands for it.
    """

    name: str
    issuer: str
    subject: str
    audience: str
    expression: str = ""
    description: str = ""
    identifier: str = ""


@dataclass(frozen=True, slots=True)
class Application:
    """An application with its service principal in the tenant it stands in, or a user-assigned managed identity.

    Attributes:
        client_id: A GUID in lower case.
        display_name: What refusals call it.
        object_id: The service principal's.
        credentials: Whose tokens it accepts.
        token_version: 1 or 2; of the access tokens that are issued for it as a resource.
        disabled: Whether an administrator has switched sign-in off.
        resource_id: The Azure Resource Manager id of a managed identity; empty for an application.
        registration_id: The application object's id, which Graph's paths name; empty for a managed identity.
        has_principal: Whether its service principal exists: without it nobody signs in.
        secrets: Client secrets that it may sign in with.
        certificates: DER certificates that it may sign in with.
        tags: Of the service principal, or of a managed identity as `key=value`.
        location: Azure's region of a managed identity.
        created: When, in seconds since 1970; 0 for those of the state file.
        principal_created: The same of its service principal.
    """

    client_id: str
    display_name: str
    object_id: str
    credentials: tuple[FederatedCredential, ...]
    token_version: int = 1
    disabled: bool = False
    resource_id: str = ""
    registration_id: str = ""
    has_principal: bool = True
    secrets: tuple[str, ...] = field(default=(), repr=False)
    certificates: tuple[bytes, ...] = ()
    tags: tuple[str, ...] = ()
    location: str = ""
    created: float = 0.0
    principal_created: float = 0.0


@dataclass(frozen=True, slots=True)
class ResourceGroup:
    """A resource group of a subscription."""

    name: str
    location: str


@dataclass(frozen=True, slots=True)
class Subscription:
    """An Azure subscription of a tenant."""

    subscription_id: str
    groups: tuple[ResourceGroup, ...] = ()

    def group(self, name: str) -> ResourceGroup | None:
        """The resource group of that name, whatever its case."""
        return next((found for found in self.groups if found.name.lower() == name.lower()), None)


@dataclass(frozen=True, slots=True)
class RoleAssignment:
    """Who may do what where; `name` is a GUID, the others as Resource Manager has them."""

    name: str
    scope: str
    role_definition_id: str
    principal_id: str


@dataclass(frozen=True, slots=True)
class Resource:
    """What access tokens can be asked for.

    `client_id` is the `aud` of version 2 tokens; version 1 tokens say the resource as it was asked for.
    """

    client_id: str = ""
    token_version: int = 1


@dataclass(frozen=True, slots=True)
class Tenant:
    """One directory; `domain` is empty where the state names none."""

    tenant_id: str
    domain: str
    applications: tuple[Application, ...]
    subscriptions: tuple[Subscription, ...] = ()
    assignments: tuple[RoleAssignment, ...] = ()

    @property
    def name(self) -> str:
        """What refusals call the directory."""
        return self.domain or self.tenant_id

    @property
    def managed_identities(self) -> tuple[Application, ...]:
        """Those of its applications that are managed identities."""
        return tuple(found for found in self.applications if found.resource_id)

    def application(self, client_id: str) -> Application | None:
        """The application or managed identity with this client id, whatever its case."""
        wanted = client_id.lower()
        return next((found for found in self.applications if found.client_id == wanted), None)


@dataclass(frozen=True, slots=True)
class Cluster:
    """What the emulated cluster's API server is told.

    Attributes:
        accounts: Namespace and name of each service account that exists; None when every one does.
        max_expiration: Seconds that no token lives longer than, as `--service-account-max-token-expiration` has it;
            0 for no bound.
    """

    accounts: frozenset[tuple[str, str]] | None = None
    max_expiration: int = 0


@dataclass(frozen=True, slots=True)
class Directory:
    """Everything the emulator knows."""

    tenants: tuple[Tenant, ...]
    resources: Mapping[str, Resource] = field(default_factory=dict)
    cluster: Cluster = Cluster()

    def tenant(self, name: str) -> Tenant | None:
        """The tenant with this GUID or domain, whatever its case."""
        wanted = name.lower()
        return next((found for found in self.tenants if wanted and wanted in {found.tenant_id, found.domain}), None)

    def subscription(self, subscription_id: str) -> tuple[Tenant, Subscription] | None:
        """The subscription with that id, and the tenant that it trusts."""
        wanted = subscription_id.lower()
        return next(
            (
                (tenant, found)
                for tenant in self.tenants
                for found in tenant.subscriptions
                if found.subscription_id == wanted
            ),
            None,
        )

    def resource(self, tenant: Tenant, identifier: str) -> Resource | None:
        """The resource of that identifier: listed, an application of the tenant, or well known."""
        wanted = identifier.rstrip("/").lower()
        listed = self.resources.get(wanted)
        if listed is not None:
            return listed
        application = tenant.application(wanted.removeprefix("api://"))
        if application is not None:
            return Resource(application.client_id, application.token_version)
        known = wanted in WELL_KNOWN_RESOURCES or _STORAGE_ACCOUNT.fullmatch(wanted) is not None
        return Resource() if known else None

    def credentials(self) -> Iterator[tuple[Application, FederatedCredential]]:
        """Every federated credential with the identity that has it."""
        for tenant in self.tenants:
            for application in tenant.applications:
                for credential in application.credentials:
                    yield application, credential


def resolve_own_issuer(directory: Directory, issuer: str) -> Directory:
    """The directory with the literal issuer `cluster` replaced by the emulated cluster's issuer URL."""

    def resolved(_: Application, credentials: tuple[FederatedCredential, ...]) -> tuple[FederatedCredential, ...]:
        return tuple(
            replace(credential, issuer=issuer) if credential.issuer == OWN_ISSUER else credential
            for credential in credentials
        )

    return with_credentials(directory, resolved)


def with_credentials(
    directory: Directory,
    change: Callable[[Application, tuple[FederatedCredential, ...]], tuple[FederatedCredential, ...]],
) -> Directory:
    """The directory with the credentials of each identity replaced by what `change` makes of them."""
    tenants = tuple(
        replace(
            tenant,
            applications=tuple(
                replace(application, credentials=change(application, application.credentials))
                for application in tenant.applications
            ),
        )
        for tenant in directory.tenants
    )
    return replace(directory, tenants=tenants)


# --- Changes --------------------------------------------------------------------------------------------


def with_tenant(directory: Directory, tenant: Tenant) -> Directory:
    """The directory with the tenant of that id replaced."""
    tenants = tuple(tenant if one.tenant_id == tenant.tenant_id else one for one in directory.tenants)
    return replace(directory, tenants=tenants)


def put_application(directory: Directory, tenant_id: str, application: Application) -> Directory:
    """The directory with an application or managed identity added, or the one with its client id replaced."""
    tenant = _tenant(directory, tenant_id)
    if tenant.application(application.client_id) is None:
        return with_tenant(directory, replace(tenant, applications=(*tenant.applications, application)))
    same = application.client_id
    applications = tuple(application if one.client_id == same else one for one in tenant.applications)
    return with_tenant(directory, replace(tenant, applications=applications))


def remove_application(directory: Directory, tenant_id: str, client_id: str) -> Directory:
    """The directory without an application or managed identity."""
    tenant = _tenant(directory, tenant_id)
    applications = tuple(one for one in tenant.applications if one.client_id != client_id)
    return with_tenant(directory, replace(tenant, applications=applications))


def put_subscription(directory: Directory, tenant_id: str, subscription: Subscription) -> Directory:
    """The directory with a subscription replaced."""
    tenant = _tenant(directory, tenant_id)
    same = subscription.subscription_id
    subscriptions = tuple(subscription if one.subscription_id == same else one for one in tenant.subscriptions)
    return with_tenant(directory, replace(tenant, subscriptions=subscriptions))


def put_assignments(directory: Directory, tenant_id: str, assignments: tuple[RoleAssignment, ...]) -> Directory:
    """The directory with these role assignments."""
    return with_tenant(directory, replace(_tenant(directory, tenant_id), assignments=assignments))


def _tenant(directory: Directory, tenant_id: str) -> Tenant:
    return next(tenant for tenant in directory.tenants if tenant.tenant_id == tenant_id)
