"""What the emulated Graph and Resource Manager share: who asks, what an answer changes, filters, pages. Pure.

Written from Microsoft's REST documents, not from our client.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import parse_qs, urlencode

import jwt
import msgspec

from azwi.emulator.directory import Directory

if TYPE_CHECKING:
    from azwi.emulator.keys import JsonObject, SigningKey
    from azwi.emulator.wire import Answer, Request

Edit: TypeAlias = Callable[[Directory], Directory]

PAGE: Final = 100  # items, where nobody asks for another size
_BEARER: Final = re.compile(r"Bearer ([\w.~+/-]+=*)", re.IGNORECASE)
_EQUALS: Final = re.compile(r"(\w+) eq '((?:[^']|'')*)'")


@dataclass(frozen=True, slots=True)
class Outcome:
    """An answer, and what it changes in the directory, if anything.

    `writes_to` names what nobody else may write to at the same time; empty where that does not matter.
    """

    answer: Answer
    edit: Edit | None = None
    writes_to: str = ""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What an answer depends on beside request and directory.

    Attributes:
        base_url: The service's own address, without a trailing slash.
        tenant_id: Of the caller's token.
        now: Seconds since 1970.
        replication: Seconds that a new object is unknown to what depends on it.
        page: Items of a page.
        new_id: Makes a GUID.
    """

    base_url: str
    tenant_id: str
    now: float
    replication: float
    page: int
    new_id: Callable[[], str]

    def is_fresh(self, created: float) -> bool:
        """Whether what was created then is not known everywhere yet."""
        return self.now < created + self.replication


def read_caller(authorization: str, keys: list[SigningKey], audiences: frozenset[str], now: float) -> str:
    """The tenant of an access token that this emulator gave for one of these audiences; empty where it is none."""
    found = _BEARER.fullmatch(authorization)
    if found is None:
        return ""
    for key in keys:
        try:
            payload = jwt.PyJWS().decode(found[1], key.private.public_key(), algorithms=["RS256"])
        except jwt.InvalidTokenError:
            continue
        claims = msgspec.json.decode(payload)
        if claims["aud"].rstrip("/") in audiences and claims["exp"] > now:
            return str(claims["tid"])
    return ""


def read_filter(request: Request) -> dict[str, str] | None:
    """The `$filter`: members and the values they must equal, joined by `and`; None where it is another."""
    text = parse_qs(request.query).get("$filter", [""])[0]
    wanted: dict[str, str] = {}
    if not text:
        return wanted
    for term in _split_terms(text):
        found = _EQUALS.fullmatch(term.strip())
        if found is None:
            return None
        wanted[found[1]] = found[2].replace("''", "'")
    return wanted


def _split_terms(text: str) -> list[str]:
    """The terms between `and`s that stand outside of quotes."""
    parts = re.split(r"('(?:[^']|'')*')", text)
    joined = "".join(part if number % 2 else part.replace(" and ", "\x00") for number, part in enumerate(parts))
    return joined.split("\x00")


def paginate(items: list[JsonObject], request: Request, about: Circumstances, link: str) -> JsonObject:
    """One page of a list, with a link to the next where there are more.

    Args:
        items: All of them.
        request: Whose `$skiptoken` says where to go on.
        about: Size of a page, and the address that the link starts with.
        link: The member that holds the link.
    """
    query = parse_qs(request.query)
    start = int(query.pop("$skiptoken", ["0"])[0])
    end = start + about.page
    page: JsonObject = {"value": items[start:end]}
    if end < len(items):
        following = urlencode({name: values[0] for name, values in query.items()} | {"$skiptoken": str(end)})
        page[link] = f"{about.base_url}{request.path}?{following}"
    return page


def read_body(request: Request) -> JsonObject | None:
    """The JSON object of a body; None where it is none."""
    try:
        document = msgspec.json.decode(request.body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
