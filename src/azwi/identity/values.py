"""Values as they are written on the command line and in files. Pure."""

from __future__ import annotations

import re
from typing import Final

_UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
# Go's time.ParseDuration, without the units that no token's life is given in.
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s)")
_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:h|ms|m|s))+")
# Azure Resource Manager, "Naming rules"; a resource group's name does not end with a full stop.
_RESOURCE_ID: Final = re.compile(
    r"/subscriptions/(?:[0-9a-z-]+|\{subscription\})/resourcegroups/[\w.()-]*[\w()-]"
    r"/providers/Microsoft\.ManagedIdentity/userAssignedIdentities/[0-9a-z_-]+",
    re.IGNORECASE,
)
# A segment of a path that stays one on its way: nothing that ends or climbs out of the path, no escape.
_SEGMENT: Final = r"/(?!\.{1,2}(?:/|\Z))[^/\s?#%\\]+"
_SCOPE: Final = re.compile(r"/|(?:/(?!\.{1,2}(?:/|\Z))[^/?#\r\n\\]+)+/?")  # names of resources may hold blanks
_ASSIGNMENT_ID: Final = re.compile(
    rf"(?:{_SEGMENT})*/providers/Microsoft\.Authorization/roleAssignments{_SEGMENT}", re.IGNORECASE
)
# Where every resource and its group live; a path of another form, as the reference was recorded with, finds nothing.
_RESOURCES: Final = re.compile(r"/+(subscriptions|providers)(/|\Z)|.*/providers/", re.IGNORECASE)
# Azure Resource Manager, "Naming rules"; Graph allows no less.
_CREDENTIAL_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{2,119}")
_GUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def parse_duration(text: str) -> int | None:
    """Whole seconds, rounded, of a duration with units, such as 1h30m; None where it is none."""
    if not _DURATION.fullmatch(text):
        return None
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    return int(seconds + 0.5)


# Stands in a path for a subscription that is yet to be found out.
ANY_SUBSCRIPTION: Final = "{subscription}"


def resource_id_of(subscription: str, group: str, name: str) -> str:
    """The path of a managed identity."""
    return (
        f"/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.ManagedIdentity/"
        f"userAssignedIdentities/{name}"
    )


def is_identity_id(text: str) -> bool:
    """Whether a text is the path of a user-assigned managed identity."""
    return _RESOURCE_ID.fullmatch(text) is not None


def is_assignment_id(text: str) -> bool:
    """Whether a text is the path of a role assignment, or at least of no other resource."""
    if _ASSIGNMENT_ID.fullmatch(text):
        return True
    return re.fullmatch(rf"(?:{_SEGMENT})+", text) is not None and not _RESOURCES.match(text)


def is_scope(text: str) -> bool:
    """Whether a text can be where a role is assigned: a path, which nothing in it ends or climbs out of."""
    return _SCOPE.fullmatch(text) is not None


def is_credential_name(text: str) -> bool:
    """Whether a federated credential of either kind of identity can be called so."""
    return _CREDENTIAL_NAME.fullmatch(text) is not None


def is_guid(text: str) -> bool:
    """Whether a text is a GUID."""
    return _GUID.fullmatch(text) is not None
