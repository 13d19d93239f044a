"""Members of a JSON document that a service answered with, each as what the service's reference says it is. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class MissingMemberError(ValueError):
    """A document lacks what it must have; the message is the end of a sentence that says who answered."""


def text(document: Mapping[str, Any], name: str) -> str:
    """A member's text; empty where it is absent or no text."""
    value = document.get(name)
    return value if isinstance(value, str) else ""


def texts(document: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """The texts in a member's list; none where it is absent or no list."""
    value = document.get(name)
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()


def section(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A member's object; an empty one where it is absent or no object."""
    value = document.get(name)
    return value if isinstance(value, dict) else {}


def objects(document: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """The objects in a member's list, which may be absent or null.

    Raises:
        MissingMemberError: It is something else.
    """
    value = document.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise MissingMemberError(f"its {name} is no list of objects")
    return value


def required(document: Mapping[str, Any], name: str) -> str:
    """A member's text that must be there.

    Raises:
        MissingMemberError: It is absent, empty or no text.
    """
    found = text(document, name)
    if not found:
        raise MissingMemberError(f"it has no {name}")
    return found
