"""The file of `azwi apply`: many identities and their service accounts, checked; every problem names its field. Pure.

```yaml
issuer: https://oidc.example/abc/              # optional, the cluster's own; an identity may name another
audience: api://AzureADTokenExchange           # optional, this is the default
identities:
  - application: orders                        # display name; or applicationClientId, applicationObjectId
    serviceAccounts:
      - {namespace: shop, name: orders, tokenExpiration: 2h}
    roles:                                     # optional
      - {role: Reader, scope: /subscriptions/…/resourceGroups/shop}
  - managedIdentity: catalogue                 # name; or its resource id
    resourceGroup: shop
    location: westeurope                       # optional: its resource group's
    serviceAccounts: [{namespace: shop, name: catalogue}]
    credentials:                               # optional: beside those of the service accounts
      - {name: ci-shop, issuer: "https://ci.example", subject: "repo:shop"}
      - {name: all, claimsMatchingExpression: "claims['sub'] matches 'system:serviceaccount:shop:*'"}
```
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from azwi.contract import DEFAULT_AUDIENCE, DEFAULT_EXPIRATION, MAX_EXPIRATION, MIN_EXPIRATION
from azwi.entra.federation import FederatedCredential
from azwi.errors import ManifestError, sentence
from azwi.identity.model import AccountOrder, IdentityRef, RoleOrder, Target
from azwi.identity.names import (
    ACCOUNT_FORM,
    NAMESPACE_FORM,
    credential_name,
    identity_credential_name,
    is_account_name,
    is_namespace,
    subject_of,
)
from azwi.identity.phases import choose_phases
from azwi.identity.values import is_credential_name, is_guid, is_identity_id, is_scope, parse_duration, resource_id_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_ALLOWED = (
    "allowed are issuer, audience and identities: [{application | applicationClientId | applicationObjectId | "
    "managedIdentity, resourceGroup, subscription, location, issuer, audience, serviceAccounts: [{namespace, name, "
    "tokenExpiration}], credentials: [{name, issuer, subject | claimsMatchingExpression, audience}], roles: [{role, "
    "scope}]}]"
)


class _Document(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """A mapping of the file: field names in camel case, unknown ones refused."""


class _Account(_Document):
    name: str
    namespace: str = "default"
    token_expiration: str = ""


class _Credential(_Document):
    name: str
    subject: str = ""
    claims_matching_expression: str = ""
    issuer: str = ""
    audience: str = ""


class _Role(_Document):
    role: str
    scope: str


class _Identity(_Document):
    application: str = ""
    application_client_id: str = ""
    application_object_id: str = ""
    managed_identity: str = ""
    resource_group: str = ""
    subscription: str = ""
    location: str = ""
    issuer: str = ""
    audience: str = ""
    service_accounts: list[_Account] = []
    credentials: list[_Credential] = []
    roles: list[_Role] = []


class _File(_Document):
    identities: list[_Identity]
    issuer: str = ""
    audience: str = DEFAULT_AUDIENCE


def parse_targets(document: object, where: str, subscription: str) -> list[Target]:
    """What a file wants, one target for each identity, however often it is named.

    Args:
        document: What YAML made of the file.
        where: Its name, for errors.
        subscription: Of managed identities that name none.

    Raises:
        ManifestError: A field is missing, unknown or holds a value that is not allowed; all are told together.
    """
    try:
        file = msgspec.convert(document, type=_File)
    except msgspec.ValidationError as problem:
        said, _, path = str(problem).partition(" - at ")
        field = path.strip("`").removeprefix("$").removeprefix(".") or "the document"
        raise ManifestError(f"{where}: {field}: {said[:1].lower()}{said[1:]}", hint=_ALLOWED) from problem
    problems = [
        f"{where}: identities[{number}]{problem}"
        for number, one in enumerate(file.identities)
        for problem in _problems(one, file, subscription)
    ]
    if problems:
        raise ManifestError(sentence(problems))
    targets = _merge([_target(one, file, subscription) for one in file.identities])
    contradictions = [f"{where}: {problem}" for problem in _contradictions(targets)]
    if contradictions:
        hint = "list it once; other identities can trust it by a credential with its subject"
        raise ManifestError(sentence(contradictions), hint=hint)
    return targets


def _problems(one: _Identity, file: _File, subscription: str) -> Iterator[str]:
    kinds = [one.application, one.application_client_id, one.application_object_id, one.managed_identity]
    if sum(map(bool, kinds)) != 1:
        yield ": name it by exactly one of application, applicationClientId, applicationObjectId, managedIdentity"
    for field, value in (
        ("applicationClientId", one.application_client_id),
        ("applicationObjectId", one.application_object_id),
    ):
        if value and not is_guid(value):
            yield f".{field}: {value!r} is no UUID"
    if one.managed_identity and not one.managed_identity.startswith("/"):
        if not one.resource_group:
            yield ".resourceGroup: a managed identity needs its resource group"
        if not (one.subscription or subscription):
            yield ".subscription: a managed identity needs its subscription, here or by --subscription-id"
    path = _resource_id(one, subscription)
    if path and not is_identity_id(path):
        yield (
            f".managedIdentity: {path!r} is no user-assigned managed identity; it must look like "
            f"{resource_id_of('SUBSCRIPTION', 'GROUP', 'NAME')}"
        )
    if one.service_accounts and not (one.issuer or file.issuer):
        yield ".issuer: the issuer of the service accounts' tokens is needed, here or at the top"
    yield from _account_problems(one)
    yield from _credential_problems(one, file)
    yield from _role_problems(one)


def _account_problems(one: _Identity) -> Iterator[str]:
    for number, account in enumerate(one.service_accounts):
        if not is_account_name(account.name):
            yield f".serviceAccounts[{number}].name: {account.name!r} must be {ACCOUNT_FORM}"
        if not is_namespace(account.namespace):
            yield f".serviceAccounts[{number}].namespace: {account.namespace!r} must be {NAMESPACE_FORM}"
        seconds = parse_duration(account.token_expiration) if account.token_expiration else DEFAULT_EXPIRATION
        if seconds is None or not MIN_EXPIRATION <= seconds <= MAX_EXPIRATION:
            yield f".serviceAccounts[{number}].tokenExpiration: {account.token_expiration!r} must be 1h to 24h"


def _credential_problems(one: _Identity, file: _File) -> Iterator[str]:
    for number, credential in enumerate(one.credentials):
        if not is_credential_name(credential.name):
            yield f".credentials[{number}].name: {credential.name!r} must be 3 to 120 letters, digits, - and _"
        if bool(credential.subject) == bool(credential.claims_matching_expression):
            yield f".credentials[{number}]: give either subject or claimsMatchingExpression"
        if not (credential.issuer or one.issuer or file.issuer):
            yield f".credentials[{number}].issuer: an issuer is needed"


def _role_problems(one: _Identity) -> Iterator[str]:
    for number, role in enumerate(one.roles):
        if not role.role:
            yield f".roles[{number}].role: a role is needed, by its name, GUID or resource id"
        if not is_scope(role.scope):
            yield f".roles[{number}].scope: {role.scope!r} must be a path, such as /subscriptions/…/resourceGroups/shop"


def _contradictions(targets: list[Target]) -> Iterator[str]:
    """Service accounts whose annotations could not hold what is wanted of them."""
    seen: dict[tuple[str, str], tuple[IdentityRef, AccountOrder]] = {}
    for target in targets:
        ref = target.identity
        for account in target.accounts:
            other, first = seen.setdefault((account.namespace, account.name), (ref, account))
            if other != ref:
                yield f"service account {account.title} is to have two identities, {other.title} and {ref.title}"
            elif first != account:
                yield f"service account {account.title} is to have two values of tokenExpiration"


def _target(one: _Identity, file: _File, subscription: str) -> Target:
    issuer, audience = one.issuer or file.issuer, one.audience or file.audience
    identity = IdentityRef(
        resource_id=_resource_id(one, subscription),
        location=one.location,
        name=one.application,
        client_id=one.application_client_id,
        object_id=one.application_object_id,
    )
    accounts = tuple(
        AccountOrder(account.namespace, account.name, parse_duration(account.token_expiration) or DEFAULT_EXPIRATION)
        for account in one.service_accounts
    )
    credentials = (
        *(account_credential(account, issuer, audience, managed=identity.managed) for account in accounts),
        *(_credential(given, issuer, audience) for given in one.credentials),
    )
    roles = tuple(RoleOrder(given.role, given.scope) for given in one.roles)
    return Target(identity, accounts, credentials, roles, choose_phases((), managed=identity.managed))


def _resource_id(one: _Identity, subscription: str) -> str:
    """The path of a managed identity; empty for an application, and for one that lacks a part."""
    name, where = one.managed_identity, one.subscription or subscription
    if not name or name.startswith("/"):
        return name
    return resource_id_of(where, one.resource_group, name) if where and one.resource_group else ""


def account_credential(account: AccountOrder, issuer: str, audience: str, *, managed: bool) -> FederatedCredential:
    """The credential by which an identity accepts a service account's tokens."""
    make = identity_credential_name if managed else credential_name
    return FederatedCredential(
        name=make(account.namespace, account.name, issuer),
        issuer=issuer,
        subject=subject_of(account.namespace, account.name),
        audiences=(audience,),
        description=f"Federated Service Account for {account.title}",
    )


def _credential(given: _Credential, issuer: str, audience: str) -> FederatedCredential:
    return FederatedCredential(
        name=given.name,
        issuer=given.issuer or issuer,
        subject=given.subject,
        audiences=(given.audience or audience,),
        expression=given.claims_matching_expression,
    )


def _merge(targets: list[Target]) -> list[Target]:
    """One target for each identity, so that nobody writes to one twice at a time."""
    merged: dict[tuple[str, ...], Target] = {}
    for one in targets:
        ref = one.identity
        key = (ref.resource_id.lower(), ref.name, ref.client_id.lower(), ref.object_id.lower())
        before = merged.get(key)
        merged[key] = one if before is None else _joined(before, one)
    return list(merged.values())


def _joined(first: Target, second: Target) -> Target:
    return replace(
        first,
        accounts=tuple(dict.fromkeys((*first.accounts, *second.accounts))),
        credentials=tuple(dict.fromkeys((*first.credentials, *second.credentials))),
        roles=tuple(dict.fromkeys((*first.roles, *second.roles))),
    )
