"""An identity for every service account of some manifests: what the emulator must know, and what they lack; no I/O."""

from __future__ import annotations

import copy
import re
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from azwi.contract import CLIENT_ID_ANNOTATION, DEFAULT_AUDIENCE, TENANT_ID_ANNOTATION

if TYPE_CHECKING:
    from collections.abc import Iterable

JsonObject = dict[str, Any]

DEFAULT_TENANT: Final = "11111111-1111-1111-1111-111111111111"
_GUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_MADE: Final = uuid.UUID("0f1a6c6e-6a0c-4f0c-9a55-2f0f4a5f7a10")  # arbitrary; makes ids the same in every run


@dataclass(slots=True)
class Identities:
    """What local runs stand on.

    Attributes:
        accounts: The service accounts, each with a client id and a tenant id that the emulator knows.
        state: The emulator's state document.
        notes: What was made up, for people.
    """

    accounts: list[JsonObject] = field(default_factory=list)
    state: JsonObject = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def make_identities(
    documents: Iterable[JsonObject], wanted: Iterable[tuple[str, str]], tenant_id: str = DEFAULT_TENANT
) -> Identities:
    """Every service account of the documents and every wanted one, with an application that trusts it.

    Args:
        documents: Manifests; only ServiceAccounts are looked at.
        wanted: Namespace and name of service accounts that Pods use.
        tenant_id: The tenant of service accounts that name none.
    """
    made = Identities()
    for document in documents:
        if document.get("kind") == "ServiceAccount":
            made.accounts.append(copy.deepcopy(document))
    present = {_key(account) for account in made.accounts}
    for namespace, name in dict.fromkeys(wanted):
        if (namespace, name) not in present:
            made.accounts.append(
                {
                    "apiVersion": "v1",
                    "kind": "ServiceAccount",
                    "metadata": {"name": name, "namespace": namespace},
                }
            )
            made.notes.append(f"service account {namespace}/{name} is not in the manifests and was made up")
    tenants: dict[str, dict[str, list[JsonObject]]] = {}
    for account in made.accounts:
        client, tenant = _complete(account, tenant_id, made.notes)
        tenants.setdefault(tenant, {}).setdefault(client, []).append(_credential(account))
    made.state = {
        "tenants": [_tenant(tenant, applications) for tenant, applications in (tenants or {tenant_id: {}}).items()],
        "serviceAccounts": [{"namespace": space, "name": name} for space, name in map(_key, made.accounts)],
    }
    return made


def _key(account: JsonObject) -> tuple[str, str]:
    metadata = account["metadata"]
    return str(metadata.get("namespace") or "default"), str(metadata.get("name", ""))


def _complete(account: JsonObject, tenant_id: str, notes: list[str]) -> tuple[str, str]:
    """Client id and tenant id of a service account, after giving it what it lacks."""
    annotations = account["metadata"].get("annotations")
    if not isinstance(annotations, dict):
        annotations = account["metadata"]["annotations"] = {}
    namespace, name = _key(account)
    client = str(annotations.get(CLIENT_ID_ANNOTATION) or "")
    if not _GUID.fullmatch(client):
        given = f"{client!r} is no GUID" if client else "has no client id"
        client = annotations[CLIENT_ID_ANNOTATION] = str(uuid.uuid5(_MADE, f"{namespace}/{name}"))
        notes.append(f"service account {namespace}/{name}: {given}, and {client} was made up")
    tenant = str(annotations.get(TENANT_ID_ANNOTATION) or "")
    if tenant and not _GUID.fullmatch(tenant):
        notes.append(f"service account {namespace}/{name}: tenant {tenant!r} is no GUID, and {tenant_id} stands for it")
        tenant = annotations[TENANT_ID_ANNOTATION] = tenant_id
    return client.lower(), (tenant or tenant_id).lower()


def _credential(account: JsonObject) -> JsonObject:
    namespace, name = _key(account)
    return {
        "name": "sa-" + uuid.uuid5(_MADE, f"{namespace}/{name}").hex[:12],
        "issuer": "cluster",
        "subject": f"system:serviceaccount:{namespace}:{name}",
        "audience": DEFAULT_AUDIENCE,
    }


def _tenant(tenant: str, applications: dict[str, list[JsonObject]]) -> JsonObject:
    return {
        "id": tenant,
        "applications": [
            {"clientId": client, "federatedCredentials": credentials} for client, credentials in applications.items()
        ],
    }
