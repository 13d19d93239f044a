"""Paths of the Instance Metadata Service: which place a request means, however it is written.

What could be read in two ways is cleaned by a redirect or refused, so that the real service never sees another path
than the one that was judged here.

Source: reference-behaviour.md section 5 (routes); "Azure Instance Metadata Service for virtual machines", endpoint
categories; RFC 3986 sections 3.3 and 5.2.4.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final
from urllib.parse import quote, unquote

_READY: Final = ("/readyz", "/healthz")
_METADATA: Final = "/metadata"
_TOKEN: Final = "/identity/oauth2/token"  # noqa: S105 - a path
# Java's SDK asks so where AZURE_POD_IDENTITY_AUTHORITY_HOST names us, and follows no redirect (msal4j 1.23.1).
_DOUBLED: Final = "/" + _METADATA + _TOKEN
_IDENTITY: Final = "/metadata/identity"
_INSTANCE: Final = ("instance", "versions", "scheduledevents", "loadbalancer")
# A path that every server reads alike; the real service has no others.
_PLAIN: Final = re.compile(r"/[A-Za-z0-9._~/-]*")


class Passthrough(Enum):
    """Which requests go on to the real service; those about identities never do."""

    INSTANCE = "instance"
    ALL = "all"
    NONE = "none"


class Place(Enum):
    """Where a path leads."""

    TOKEN = "token"  # noqa: S105 - a name
    READY = "ready"
    UPSTREAM = "upstream"  # the real service
    UNCLEAN = "unclean"  # `//` or dot segments: to be asked again under the clean path
    AMBIGUOUS = "ambiguous"  # servers may read it differently
    OTHER_IDENTITY = "other identity"  # tells about the node's identity
    REFUSED = "refused"  # not passed on


@dataclass(frozen=True, slots=True)
class Route:
    """A place, and the path in its clean and encoded form."""

    place: Place
    path: str


def find_route(raw: str, passthrough: Passthrough) -> Route:
    """Where a path leads.

    Args:
        raw: The path as it was sent, percent-encoded, without query.
        passthrough: What is passed on.
    """
    if raw == _DOUBLED:
        raw = _METADATA + _TOKEN
    try:
        path = unquote(raw, errors="strict")
    except UnicodeDecodeError:
        return Route(Place.AMBIGUOUS, raw)
    if not path.startswith("/") or "\\" in path or not path.isprintable():
        return Route(Place.AMBIGUOUS, raw)
    clean = _clean(path)
    if clean != path:
        return Route(Place.UNCLEAN, quote(clean))
    return Route(_find_place(path, plain=_PLAIN.fullmatch(raw) is not None, passthrough=passthrough), raw)


def _find_place(path: str, *, plain: bool, passthrough: Passthrough) -> Place:
    if path.startswith(_READY):
        return Place.READY
    # The word metadata in any case, the rest exact; anything may follow.
    folded = path.casefold()
    if folded.startswith(_METADATA) and path.startswith(_TOKEN, len(_METADATA)):
        return Place.TOKEN
    if folded.startswith(_IDENTITY):
        return Place.OTHER_IDENTITY
    if passthrough is Passthrough.NONE:
        return Place.REFUSED
    if not plain:
        return Place.AMBIGUOUS
    if passthrough is Passthrough.ALL or _is_instance(folded):
        return Place.UPSTREAM
    return Place.REFUSED


def _is_instance(folded: str) -> bool:
    segments = folded.split("/")
    return len(segments) > 2 and segments[1] == "metadata" and segments[2] in _INSTANCE  # noqa: PLR2004


def _clean(path: str) -> str:
    """The path without empty and dot segments; a trailing slash stays."""
    if "//" not in path and "/." not in path:
        return path
    segments: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del segments[-1:]
        elif segment not in ("", "."):
            segments.append(segment)
    tail = "/" if path.endswith(("/", "/.", "/..")) and segments else ""
    return "/" + "/".join(segments) + tail
