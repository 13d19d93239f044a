"""What the emulated Entra knows: tenants, applications, federated credentials, resources; read from a YAML state.

The state document, as `yaml.safe_load` gives it:

```yaml
tenants:
  - id: 11111111-1111-1111-1111-111111111111
    domain: contoso.onmicrosoft.com          # optional
    applications:
      - clientId: 22222222-2222-2222-2222-222222222222
        displayName: orders                  # optional, default: the client id
        federatedCredentials:
          - name: orders-prod
            issuer: cluster                  # the emulated cluster's own issuer, else an https URL
            subject: system:serviceaccount:shop:orders
            audience: api://AzureADTokenExchange   # optional, this is the default
resources:                                   # optional: resource identifiers beside the well-known ones
  - api://orders
```
"""

from __future__ import annotations

import re
import uuid
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from azwi.contract import DEFAULT_AUDIENCE
from azwi.errors import ManifestError, sentence

if TYPE_CHECKING:
    from collections.abc import Iterator

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

_GUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_DOMAIN: Final = re.compile(r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}", re.IGNORECASE)
# Microsoft Graph, federatedIdentityCredential: name 3 to 120 characters safe in a URL, the others up to 600.
_CREDENTIAL_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{2,119}")
_MAX_VALUE: Final = 600
_MAX_CREDENTIALS: Final = 20  # Microsoft Learn, "Important considerations ... federated identity credentials"


@dataclass(frozen=True, slots=True)
class FederatedCredential:
    """Whose tokens an application accepts as its own; the three values are compared exactly."""

    name: str
    issuer: str
    subject: str
    audience: str


@dataclass(frozen=True, slots=True)
class Application:
    """An application with its service principal in the tenant it stands in; `object_id` is the principal's."""

    client_id: str
    display_name: str
    object_id: str
    credentials: tuple[FederatedCredential, ...]


@dataclass(frozen=True, slots=True)
class Tenant:
    """One directory; `domain` is empty where the state names none."""

    tenant_id: str
    domain: str
    applications: tuple[Application, ...]

    @property
    def name(self) -> str:
        """What refusals call the directory."""
        return self.domain or self.tenant_id

    def application(self, client_id: str) -> Application | None:
        """The application with this client id, whatever its case."""
        wanted = client_id.lower()
        return next((found for found in self.applications if found.client_id == wanted), None)


@dataclass(frozen=True, slots=True)
class Directory:
    """Everything the emulator knows."""

    tenants: tuple[Tenant, ...]
    resources: frozenset[str]

    def tenant(self, name: str) -> Tenant | None:
        """The tenant with this GUID or domain, whatever its case."""
        wanted = name.lower()
        return next((found for found in self.tenants if wanted and wanted in {found.tenant_id, found.domain}), None)

    def knows_resource(self, tenant: Tenant, resource: str) -> bool:
        """Whether tokens can be asked for this resource: well known, listed, or an application of the tenant."""
        wanted = resource.rstrip("/").lower()
        known = wanted in WELL_KNOWN_RESOURCES or wanted in self.resources
        return (
            known
            or _STORAGE_ACCOUNT.fullmatch(wanted) is not None
            or tenant.application(wanted.removeprefix("api://")) is not None
        )


def resolve_own_issuer(directory: Directory, issuer: str) -> Directory:
    """The directory with the literal issuer `cluster` replaced by the emulated cluster's issuer URL."""
    return replace(directory, tenants=tuple(_resolve_tenant(tenant, issuer) for tenant in directory.tenants))


def _resolve_tenant(tenant: Tenant, issuer: str) -> Tenant:
    return replace(
        tenant,
        applications=tuple(
            replace(
                application,
                credentials=tuple(
                    replace(credential, issuer=issuer) if credential.issuer == OWN_ISSUER else credential
                    for credential in application.credentials
                ),
            )
            for application in tenant.applications
        ),
    )


# --- Reading the state --------------------------------------------------------------------------------

_ALLOWED: Final = (
    "allowed are tenants: [{id, domain, applications: [{clientId, displayName, federatedCredentials: "
    "[{name, issuer, subject, audience}]}]}] and resources: [text]"
)


class _Document(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """A mapping of the state document: field names in camel case, unknown ones refused."""


class _Credential(_Document):
    name: str
    issuer: str
    subject: str
    audience: str = DEFAULT_AUDIENCE


class _Application(_Document):
    client_id: str
    display_name: str = ""
    federated_credentials: list[_Credential] = []


class _Tenant(_Document):
    id: str
    domain: str = ""
    applications: list[_Application] = []


class _State(_Document):
    tenants: list[_Tenant]
    resources: list[str] = []


def parse_state(document: object, where: str) -> Directory:
    """Read a state document; all problems of its values are reported together.

    Args:
        document: What `yaml.safe_load` made of the file.
        where: The file's name, for error messages.

    Raises:
        ManifestError: A field is missing, unknown, of a wrong type or holds a value that is not allowed.
    """
    try:
        state = msgspec.convert(document, type=_State)
    except msgspec.ValidationError as error:
        raise ManifestError(f"{where}: {_describe(error)}", hint=_ALLOWED) from error
    problems = [f"{where}: {problem}" for problem in _problems(state)]
    if problems:
        raise ManifestError(sentence(problems))
    return Directory(
        tenants=tuple(_tenant(tenant) for tenant in state.tenants),
        resources=frozenset(resource.rstrip("/").lower() for resource in state.resources),
    )


def _describe(error: msgspec.ValidationError) -> str:
    """Field first: msgspec says "Expected `str`, got `int` - at `$.tenants[0].id`"."""
    problem, _, path = str(error).partition(" - at ")
    field = path.strip("`").removeprefix("$").removeprefix(".")
    return f"{field or 'the document'}: {problem[:1].lower()}{problem[1:]}"


def _tenant(state: _Tenant) -> Tenant:
    tenant_id = state.id.lower()
    return Tenant(
        tenant_id=tenant_id,
        domain=state.domain.lower(),
        applications=tuple(_application(tenant_id, application) for application in state.applications),
    )


def _application(tenant_id: str, state: _Application) -> Application:
    client_id = state.client_id.lower()
    return Application(
        client_id=client_id,
        display_name=state.display_name or client_id,
        object_id=str(uuid.uuid5(uuid.UUID(tenant_id), client_id)),  # the same in every run
        credentials=tuple(
            FederatedCredential(given.name, given.issuer, given.subject, given.audience)
            for given in state.federated_credentials
        ),
    )


def _problems(state: _State) -> Iterator[str]:
    if not state.tenants:
        yield "tenants: at least one tenant is needed"
    names: list[str] = []
    for number, tenant in enumerate(state.tenants):
        at = f"tenants[{number}]"
        yield from _tenant_problems(tenant, at)
        names += [name.lower() for name in (tenant.id, tenant.domain) if name]
    yield from _repeated(names, "tenants", "id or domain")
    for number, resource in enumerate(state.resources):
        if not resource or any(character.isspace() for character in resource):
            yield f"resources[{number}]: {resource!r} is not a resource identifier, which has no spaces"


def _tenant_problems(tenant: _Tenant, at: str) -> Iterator[str]:
    if not _GUID.fullmatch(tenant.id):
        yield f"{at}.id: {tenant.id!r} is not a GUID"
    if tenant.domain and not _DOMAIN.fullmatch(tenant.domain):
        yield f"{at}.domain: {tenant.domain!r} is not a domain name such as contoso.onmicrosoft.com"
    yield from _repeated([given.client_id.lower() for given in tenant.applications], f"{at}.applications", "clientId")
    for number, application in enumerate(tenant.applications):
        yield from _application_problems(application, f"{at}.applications[{number}]")


def _application_problems(application: _Application, at: str) -> Iterator[str]:
    if not _GUID.fullmatch(application.client_id):
        yield f"{at}.clientId: {application.client_id!r} is not a GUID"
    credentials = application.federated_credentials
    here = f"{at}.federatedCredentials"
    if len(credentials) > _MAX_CREDENTIALS:
        yield f"{here}: {len(credentials)} are too many, an application has at most {_MAX_CREDENTIALS}"
    yield from _repeated([given.name for given in credentials], here, "name")
    yield from _repeated([f"{given.issuer} {given.subject}" for given in credentials], here, "issuer and subject")
    for number, credential in enumerate(credentials):
        yield from _credential_problems(credential, f"{here}[{number}]")


def _credential_problems(credential: _Credential, at: str) -> Iterator[str]:
    if not _CREDENTIAL_NAME.fullmatch(credential.name):
        yield f"{at}.name: {credential.name!r} must be 3 to 120 letters, digits, - and _, the first no - or _"
    if credential.issuer != OWN_ISSUER and not _is_issuer(credential.issuer):
        yield f"{at}.issuer: {credential.issuer!r} must be the word {OWN_ISSUER} or an https URL without query"
    for name, value in (("subject", credential.subject), ("audience", credential.audience)):
        if not 1 <= len(value) <= _MAX_VALUE:
            yield f"{at}.{name}: must have 1 to {_MAX_VALUE} characters"


def _is_issuer(issuer: str) -> bool:
    try:
        url = urlsplit(issuer)
        port_is_readable = url.port is None or url.port > 0
    except ValueError:
        return False
    plain = not (url.query or url.fragment or url.username or url.password or any(c.isspace() for c in issuer))
    return url.scheme == "https" and bool(url.hostname) and port_is_readable and plain and len(issuer) <= _MAX_VALUE


def _repeated(values: list[str], at: str, what: str) -> Iterator[str]:
    for value, count in Counter(values).items():
        if count > 1:
            yield f"{at}: the {what} {value!r} is given more than once"
