"""Names that are made: of applications, credentials and subjects. Pure.

Source: R 7.2; Azure Resource Manager, "Naming rules" for those of managed identities' credentials.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final

from azwi.admission.values import is_object_name

_SUBJECT: Final = re.compile(r"system:serviceaccount:([^:]+):([^:]+)")
_UNFIT: Final = re.compile(r"[^A-Za-z0-9_-]+")
_READABLE: Final = 80  # characters of namespace and name in a credential's name
_DIGEST: Final = 12  # hex digits that tell two of them apart
_MAX_LABEL: Final = 63  # characters; Kubernetes, "Object Names and IDs"
ACCOUNT_FORM: Final = "small letters, digits, - and ., the first and the last no - or ."
NAMESPACE_FORM: Final = "at most 63 small letters, digits and -, the first and the last no -"


def application_name(namespace: str, name: str, issuer: str) -> str:
    """The display name of a service account's application, where nobody gave one."""
    return f"{namespace}-{name}-{_hash(issuer)}"


def credential_name(namespace: str, name: str, issuer: str) -> str:
    """The name of a service account's credential in an application."""
    return _hash(f"{namespace}-{name}-{issuer}")


def identity_credential_name(namespace: str, name: str, issuer: str) -> str:
    """The same in a managed identity, where `=` and a leading `-` are not allowed."""
    readable = _UNFIT.sub("-", f"{namespace}-{name}")[:_READABLE].lstrip("-_")
    digest = hashlib.sha256(f"{namespace}/{name}/{issuer}".encode()).hexdigest()[:_DIGEST]
    return f"{readable}-{digest}"


def compare_issuers(given: str, actual: str) -> str:
    """What is wrong with an issuer, beside the one that the cluster itself names; empty where nothing is known to be.

    Entra compares them byte by byte.
    """
    if given == actual or not actual:
        return ""
    if given.rstrip("/") == actual.rstrip("/"):
        how = "they differ in the slash at the end"
    elif given.lower().rstrip("/") == actual.lower().rstrip("/"):
        how = "they differ in upper and lower case"
    else:
        how = "they are different"
    said = f"--service-account-issuer-url is {given}, this cluster's tokens are from {actual}"
    return f"{said}: {how}, so they will not match"


def subject_of(namespace: str, name: str) -> str:
    """The subject of a service account's tokens."""
    return f"system:serviceaccount:{namespace}:{name}"


def is_account_name(text: str) -> bool:
    """Whether a service account can be called so: by a DNS subdomain."""
    return is_object_name(text)


def is_namespace(text: str) -> bool:
    """Whether a namespace can be called so: by a DNS label."""
    return is_object_name(text) and "." not in text and len(text) <= _MAX_LABEL


def account_of(subject: str) -> tuple[str, str] | None:
    """Namespace and name of the service account that a subject means; None where it means another thing."""
    found = _SUBJECT.fullmatch(subject)
    return (found[1], found[2]) if found else None


def _hash(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode()
