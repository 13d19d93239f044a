"""The state document of the emulator, checked: every problem is told with the field it stands in.

The document, as `yaml.safe_load` gives it:

```yaml
tenants:
  - id: 11111111-1111-1111-1111-111111111111
    domain: contoso.onmicrosoft.com          # optional
    applications:
      - clientId: 22222222-2222-2222-2222-222222222222
        displayName: orders                  # optional, default: the client id
        disabled: false                      # optional: true refuses it with AADSTS7000112
        accessTokenVersion: 1                # optional: of tokens for it as a resource, api://<its client id>
        clientSecrets: [not-a-secret]        # optional: it may sign in with them
        certificates: ["-----BEGIN …"]       # optional: PEM, it may sign in with their keys
        federatedCredentials:
          - name: orders-prod
            issuer: cluster                  # the emulated cluster's own issuer, else an https URL
            subject: system:serviceaccount:shop:orders
            audience: api://AzureADTokenExchange   # optional, this is the default
    managedIdentities:                       # optional: also assigned to the emulated virtual machine of IMDS
      - name: catalogue
        clientId: 33333333-3333-3333-3333-333333333333
        resourceId: /subscriptions/…         # optional, default: made from the name
        federatedCredentials: []
    subscriptions:                           # optional: what Resource Manager has
      - id: 99999999-9999-9999-9999-999999999999
        resourceGroups: [{name: shop, location: westeurope}]
resources:                                   # optional: what tokens can be asked for beside the well-known resources
  - api://orders
  - identifier: api://stock
    clientId: 44444444-4444-4444-4444-444444444444
    accessTokenVersion: 2
serviceAccounts:                             # optional: the only ones that exist; without it every one does
  - namespace: shop
    name: orders
cluster:                                     # optional
  maxTokenExpirationSeconds: 7200            # no service account token lives longer, whatever it is asked for
```
"""

from __future__ import annotations

import re
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from azwi.contract import DEFAULT_AUDIENCE
from azwi.emulator.directory import (
    OWN_ISSUER,
    Application,
    Cluster,
    Directory,
    FederatedCredential,
    Resource,
    ResourceGroup,
    Subscription,
    Tenant,
)
from azwi.errors import ManifestError, sentence

if TYPE_CHECKING:
    from collections.abc import Iterator

_GUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_DOMAIN: Final = re.compile(r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}", re.IGNORECASE)
# Microsoft Graph, federatedIdentityCredential: name 3 to 120 characters safe in a URL, the others up to 600.
_CREDENTIAL_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{2,119}")
# Azure Resource Manager, "Naming rules": a user-assigned identity's name.
_IDENTITY_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{2,127}")
_RESOURCE_ID: Final = re.compile(
    r"/subscriptions/[^/\s]+/resourcegroups/[^/\s]+/providers/Microsoft\.ManagedIdentity/userAssignedIdentities/[^/\s]+",
    re.IGNORECASE,
)
_MADE_RESOURCE_ID: Final = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourcegroups/emulated/providers/"
    "Microsoft.ManagedIdentity/userAssignedIdentities/"
)
_MAX_VALUE: Final = 600
_MAX_CREDENTIALS: Final = 20  # Microsoft Learn, "Important considerations ... federated identity credentials"

_ALLOWED: Final = (
    "allowed are tenants: [{id, domain, applications: [{clientId, displayName, disabled, accessTokenVersion, "
    "clientSecrets, certificates, federatedCredentials: [{name, issuer, subject, audience}]}], managedIdentities: "
    "[{name, clientId, resourceId, federatedCredentials}], subscriptions: [{id, resourceGroups: [{name, location}]}]}]"
    ", resources: [text or {identifier, clientId, accessTokenVersion}], serviceAccounts: [{namespace, name}] and "
    "cluster: {maxTokenExpirationSeconds}"
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
    disabled: bool = False
    access_token_version: Literal[1, 2] = 1
    client_secrets: list[str] = []
    certificates: list[str] = []
    federated_credentials: list[_Credential] = []


class _ManagedIdentity(_Document):
    name: str
    client_id: str
    resource_id: str = ""
    federated_credentials: list[_Credential] = []


class _Group(_Document):
    name: str
    location: str


class _Subscription(_Document):
    id: str
    resource_groups: list[_Group] = []


class _Tenant(_Document):
    id: str
    domain: str = ""
    applications: list[_Application] = []
    managed_identities: list[_ManagedIdentity] = []
    subscriptions: list[_Subscription] = []


class _Listed(_Document):
    identifier: str
    client_id: str = ""
    access_token_version: Literal[1, 2] = 1


class _ServiceAccount(_Document):
    namespace: str
    name: str


class _Cluster(_Document):
    max_token_expiration_seconds: int = 0


class _State(_Document):
    tenants: list[_Tenant]
    resources: list[str | _Listed] = []
    service_accounts: list[_ServiceAccount] | None = None
    cluster: _Cluster = msgspec.field(default_factory=_Cluster)


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
    accounts = state.service_accounts
    return Directory(
        tenants=tuple(_tenant(tenant) for tenant in state.tenants),
        resources=dict(map(_resource, state.resources)),
        cluster=Cluster(
            accounts=None if accounts is None else frozenset((given.namespace, given.name) for given in accounts),
            max_expiration=state.cluster.max_token_expiration_seconds,
        ),
    )


def _describe(error: msgspec.ValidationError) -> str:
    """Field first: msgspec says "Expected `str`, got `int` - at `$.tenants[0].id`"."""
    problem, _, path = str(error).partition(" - at ")
    field = path.strip("`").removeprefix("$").removeprefix(".")
    return f"{field or 'the document'}: {problem[:1].lower()}{problem[1:]}"


# --- Values ---------------------------------------------------------------------------------------------


def _tenant(state: _Tenant) -> Tenant:
    tenant_id = state.id.lower()
    applications = [_application(tenant_id, given) for given in state.applications]
    identities = [_managed_identity(tenant_id, given) for given in state.managed_identities]
    subscriptions = tuple(
        Subscription(one.id.lower(), tuple(ResourceGroup(group.name, group.location) for group in one.resource_groups))
        for one in state.subscriptions
    )
    return Tenant(tenant_id, state.domain.lower(), (*applications, *identities), subscriptions)


def _application(tenant_id: str, state: _Application) -> Application:
    client_id = state.client_id.lower()
    return Application(
        client_id=client_id,
        display_name=state.display_name or client_id,
        object_id=_object_id(tenant_id, client_id),
        credentials=_credentials(state.federated_credentials),
        token_version=state.access_token_version,
        disabled=state.disabled,
        registration_id=_object_id(tenant_id, client_id + "/registration"),
        secrets=tuple(state.client_secrets),
        certificates=tuple(map(_der, state.certificates)),
    )


def _managed_identity(tenant_id: str, state: _ManagedIdentity) -> Application:
    client_id = state.client_id.lower()
    return Application(
        client_id=client_id,
        display_name=state.name,
        object_id=_object_id(tenant_id, client_id),
        credentials=_credentials(state.federated_credentials),
        resource_id=state.resource_id or _MADE_RESOURCE_ID + state.name,
    )


def _der(pem: str) -> bytes:
    return x509.load_pem_x509_certificate(pem.encode()).public_bytes(serialization.Encoding.DER)


def _object_id(tenant_id: str, client_id: str) -> str:
    """The same in every run."""
    return str(uuid.uuid5(uuid.UUID(tenant_id), client_id))


def _credentials(given: list[_Credential]) -> tuple[FederatedCredential, ...]:
    return tuple(FederatedCredential(one.name, one.issuer, one.subject, one.audience) for one in given)


def _resource(state: str | _Listed) -> tuple[str, Resource]:
    if isinstance(state, str):
        return state.rstrip("/").lower(), Resource()
    return state.identifier.rstrip("/").lower(), Resource(state.client_id.lower(), state.access_token_version)


# --- Problems -------------------------------------------------------------------------------------------


def _problems(state: _State) -> Iterator[str]:
    if not state.tenants:
        yield "tenants: at least one tenant is needed"
    names: list[str] = []
    for number, tenant in enumerate(state.tenants):
        yield from _tenant_problems(tenant, f"tenants[{number}]")
        names += [name.lower() for name in (tenant.id, tenant.domain) if name]
    yield from _repeated(names, "tenants", "id or domain")
    for number, resource in enumerate(state.resources):
        yield from _resource_problems(resource, f"resources[{number}]")
    for number, account in enumerate(state.service_accounts or ()):
        if not (account.namespace and account.name):
            yield f"serviceAccounts[{number}]: namespace and name must not be empty"
    if state.cluster.max_token_expiration_seconds < 0:
        yield "cluster.maxTokenExpirationSeconds: must not be negative"


def _resource_problems(resource: str | _Listed, at: str) -> Iterator[str]:
    identifier = resource if isinstance(resource, str) else resource.identifier
    if not identifier or any(character.isspace() for character in identifier):
        yield f"{at}: {identifier!r} is not a resource identifier, which has no spaces"
    if isinstance(resource, _Listed):
        needed = resource.client_id or resource.access_token_version == 2  # noqa: PLR2004  # the version's number
        if needed and not _GUID.fullmatch(resource.client_id):
            yield f"{at}.clientId: {resource.client_id!r} is not a GUID; it is the audience of version 2 tokens"


def _tenant_problems(tenant: _Tenant, at: str) -> Iterator[str]:
    if not _GUID.fullmatch(tenant.id):
        yield f"{at}.id: {tenant.id!r} is not a GUID"
    if tenant.domain and not _DOMAIN.fullmatch(tenant.domain):
        yield f"{at}.domain: {tenant.domain!r} is not a domain name such as contoso.onmicrosoft.com"
    identities: list[_Application | _ManagedIdentity] = [*tenant.applications, *tenant.managed_identities]
    where = "applications and managedIdentities" if tenant.managed_identities else "applications"
    yield from _repeated([given.client_id.lower() for given in identities], f"{at}.{where}", "clientId")
    for number, application in enumerate(tenant.applications):
        yield from _identity_problems(application, f"{at}.applications[{number}]")
        if not all(map(_is_certificate, application.certificates)):
            yield f"{at}.applications[{number}].certificates: each must be an X.509 certificate in PEM"
    yield from _repeated([given.id.lower() for given in tenant.subscriptions], f"{at}.subscriptions", "id")
    for number, subscription in enumerate(tenant.subscriptions):
        if not _GUID.fullmatch(subscription.id):
            yield f"{at}.subscriptions[{number}].id: {subscription.id!r} is not a GUID"
    for number, identity in enumerate(tenant.managed_identities):
        here = f"{at}.managedIdentities[{number}]"
        yield from _identity_problems(identity, here)
        if not _IDENTITY_NAME.fullmatch(identity.name):
            yield f"{here}.name: {identity.name!r} must be 3 to 128 letters, digits, - and _, the first no - or _"
        if identity.resource_id and not _RESOURCE_ID.fullmatch(identity.resource_id):
            yield f"{here}.resourceId: {identity.resource_id!r} must look like {_MADE_RESOURCE_ID}NAME"


def _identity_problems(given: _Application | _ManagedIdentity, at: str) -> Iterator[str]:
    if not _GUID.fullmatch(given.client_id):
        yield f"{at}.clientId: {given.client_id!r} is not a GUID"
    credentials = given.federated_credentials
    here = f"{at}.federatedCredentials"
    if len(credentials) > _MAX_CREDENTIALS:
        yield f"{here}: {len(credentials)} are too many, an identity has at most {_MAX_CREDENTIALS}"
    yield from _repeated([one.name for one in credentials], here, "name")
    yield from _repeated([f"{one.issuer} {one.subject}" for one in credentials], here, "issuer and subject")
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


def _is_certificate(pem: str) -> bool:
    try:
        _der(pem)
    except ValueError:
        return False
    return True


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
