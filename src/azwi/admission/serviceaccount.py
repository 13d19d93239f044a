"""What a service account says about its identity, read once when the account is seen."""

from __future__ import annotations

import re
from collections.abc import Mapping  # noqa: TC003  # the annotations of a frozen dataclass are part of its interface
from dataclasses import dataclass
from typing import Final

from azwi.admission.values import is_guid, is_object_name
from azwi.admission.verdict import AdmissionWarning, warn
from azwi.contract import (
    CLIENT_ID_ANNOTATION,
    CLIENT_ID_FROM_ANNOTATION,
    EXPIRATION_ANNOTATION,
    TENANT_ID_ANNOTATION,
)

CLIENT_ID_FROM_FORM: Final = "configmap/<name>/<key>"

_KNOWN: Final = (CLIENT_ID_ANNOTATION, TENANT_ID_ANNOTATION, EXPIRATION_ANNOTATION, CLIENT_ID_FROM_ANNOTATION)
_NOT_LETTER_OR_DIGIT = re.compile(r"[^a-z0-9]")
_OUR_FIELD = {
    re.sub(r"[^a-z0-9]", "", known.partition("/")[2]): known
    for known in (CLIENT_ID_ANNOTATION, TENANT_ID_ANNOTATION, EXPIRATION_ANNOTATION)
}
_CONFIG_MAP_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}", re.ASCII)
_DOMAIN = re.compile(r"([a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?\.)+[a-zA-Z]{2,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ConfigMapKey:
    """A key of a ConfigMap in the Pod's namespace."""

    name: str
    key: str


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """The identity that a service account stands for.

    Empty strings mean: not said. `client_id_from_text` is the annotation as written, `client_id_from` what it says,
    None where it says nothing or cannot be read. `warnings` hold for each Pod of the account.
    """

    client_id: str = ""
    tenant_id: str = ""
    expiration: str = ""
    client_id_from_text: str | None = None
    client_id_from: ConfigMapKey | None = None
    warnings: tuple[AdmissionWarning, ...] = ()


def read_service_account(annotations: Mapping[str, str]) -> ServiceAccount:
    """What the annotations of a service account say."""
    reference = annotations.get(CLIENT_ID_FROM_ANNOTATION)
    return ServiceAccount(
        client_id=annotations.get(CLIENT_ID_ANNOTATION, ""),
        tenant_id=annotations.get(TENANT_ID_ANNOTATION, ""),
        expiration=annotations.get(EXPIRATION_ANNOTATION, ""),
        client_id_from_text=reference,
        client_id_from=None if reference is None else parse_client_id_from(reference),
        warnings=tuple(_warnings(annotations)),
    )


def parse_client_id_from(text: str) -> ConfigMapKey | None:
    """The ConfigMap key of `configmap/<name>/<key>`, or None (D 15)."""
    kind, _, rest = text.partition("/")
    name, _, key = rest.partition("/")
    if kind.lower() != "configmap" or not is_object_name(name) or not _CONFIG_MAP_KEY.fullmatch(key):
        return None
    return ConfigMapKey(name, key)


def near_misses(annotations: Mapping[str, str]) -> list[tuple[str, str]]:
    """Keys that are probably meant to be ours: (as written, as it must be).

    `client_id`, `clientId` and the like under our prefix, and our names under a prefix that speaks of Azure, workload
    or identity.
    """
    found = []
    for key in annotations:
        if key in _KNOWN:
            continue
        prefix, slash, name = key.lower().rpartition("/")
        squeezed = _NOT_LETTER_OR_DIGIT.sub("", name)
        if slash and any(word in prefix for word in ("azure", "workload", "identity")):
            meant = _OUR_FIELD.get(squeezed)
        else:
            # The slash forgotten: azure.workload.identity.client-id
            meant = _OUR_FIELD.get(squeezed.removeprefix("azureworkloadidentity")) if "workload" in squeezed else None
        if meant is not None:
            found.append((key, meant))
    return found


def _warnings(annotations: Mapping[str, str]) -> list[AdmissionWarning]:
    warnings = [
        warn("near-miss", f"service account: annotation {written} is not read; did you mean {meant}?")
        for written, meant in near_misses(annotations)
    ]
    client_id = annotations.get(CLIENT_ID_ANNOTATION, "")
    tenant_id = annotations.get(TENANT_ID_ANNOTATION)
    if client_id:
        warnings += _client_id_warnings(client_id, by_reference=CLIENT_ID_FROM_ANNOTATION in annotations)
    elif CLIENT_ID_FROM_ANNOTATION not in annotations:
        text = f"service account has no {CLIENT_ID_ANNOTATION}: AZURE_CLIENT_ID is not set"
        warnings.append(warn("no-client-id", text, fatal=True))
    if tenant_id == "":
        warnings.append(
            warn("empty-tenant-id", f"service account: {TENANT_ID_ANNOTATION} is empty; the webhook's tenant is used")
        )
    elif tenant_id is not None and not is_guid(tenant_id):
        text = f'service account: {TENANT_ID_ANNOTATION} "{tenant_id}" is not a GUID'
        warnings.append(warn("tenant-id-not-guid", text, fatal=_DOMAIN.fullmatch(tenant_id) is None))
    return warnings


def _client_id_warnings(client_id: str, *, by_reference: bool) -> list[AdmissionWarning]:
    warnings = []
    if not is_guid(client_id):
        text = f'service account: client-id "{client_id}" is not a GUID; use the application (client) ID'
        warnings.append(warn("client-id-not-guid", text, fatal=True))
    if by_reference:
        text = "service account has client-id and client-id-from; client-id is used"
        warnings.append(warn("client-id-twice", text))
    return warnings
