"""Values of annotations and flags: whole numbers as Go reads them, booleans, quantities.

Each function gives the value or None; the caller names the annotation in its refusal.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

# strconv.ParseInt in base 10: a sign, ASCII digits, leading zeros (R 2.4, 2.7).
_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
# A 64-bit number has 19 digits; longer ones may only be leading zeros.
_MAX_DIGITS: Final = 64

_TRUE = frozenset({"true", "1", "yes", "on", ""})
_FALSE = frozenset({"false", "0", "no", "off"})
BOOLEANS: Final = "true, 1, yes, on or the empty string; false, 0, no or off"

# Kubernetes resource.Quantity.
_QUANTITY = re.compile(
    r"\+?(?P<number>[0-9]+(\.[0-9]*)?|\.[0-9]+)(?P<suffix>[numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?", re.ASCII
)
_MAX_QUANTITY_LENGTH: Final = 32
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}

# Kubernetes: a DNS-1123 subdomain, as far as its parts need not be told apart.
_OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", re.ASCII)

_GUID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}", re.ASCII)


def is_object_name(text: str) -> bool:
    """Whether most objects of Kubernetes may have that name, service accounts and namespaces among them."""
    return _OBJECT_NAME.fullmatch(text) is not None


def parse_integer(text: str) -> int | None:
    """The number, or None where Go's ParseInt finds a syntax error. No range is checked."""
    if len(text) > _MAX_DIGITS or _INTEGER.fullmatch(text) is None:
        return None
    return int(text)


def parse_boolean(text: str) -> bool | None:
    """The boolean that a person may mean (D 5), or None."""
    lower = text.lower()
    if lower in _TRUE:
        return True
    return False if lower in _FALSE else None


def parse_quantity(text: str) -> Decimal | None:
    """The amount of a Kubernetes quantity (`10m` is 0.01, `1Ki` is 1024), or None."""
    match = _QUANTITY.fullmatch(text) if len(text) <= _MAX_QUANTITY_LENGTH else None
    if match is None:
        return None
    number, suffix = Decimal(match["number"]), match["suffix"] or ""
    if suffix in _BINARY:
        return number * Decimal(1024) ** _BINARY[suffix]
    exponent = _DECIMAL[suffix] if suffix in _DECIMAL else int(suffix[1:])
    return number.scaleb(exponent)


def is_guid(text: str) -> bool:
    """Whether the text is a GUID as Entra prints identifiers: 32 hexadecimal digits in five groups."""
    return _GUID.fullmatch(text) is not None
