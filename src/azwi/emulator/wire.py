"""Requests and answers as values, and the few ASGI messages that carry them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgspec

from azwi.version import user_agent

MAX_BODY: Final = 1 << 20  # bytes
_MAX_DISCARDED: Final = 16 << 20  # bytes; a client that is cut off while it sends seldom reads why

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Request:
    """A whole request; header names are in lower case, the path is percent-decoded."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def segments(self) -> list[str]:
        """The parts of the path; empty ones do not count."""
        return [part for part in self.path.split("/") if part]


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; `outcome` and `about` are what the journal says of it and never hold a token."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    outcome: str = "ok"
    about: tuple[tuple[str, str], ...] = ()


def json_answer(
    document: object, *, status: int = 200, headers: tuple[tuple[str, str], ...] = (), outcome: str = "ok"
) -> Answer:
    """An answer with a JSON body that no cache keeps."""
    fixed = (
        ("content-type", "application/json; charset=utf-8"),
        ("cache-control", "no-store, no-cache"),
        ("pragma", "no-cache"),
    )
    return Answer(status, msgspec.json.encode(document), fixed + headers, outcome)


async def read_request(scope: Scope, receive: Receive) -> Request | None:
    """The request with its body; None when the body is larger than `MAX_BODY` or its sender went away."""
    body = await _read_body(receive)
    if body is None:
        return None
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    query = scope["query_string"].decode("latin-1")
    return Request(scope["method"], scope["path"], query, headers, body)


async def _read_body(receive: Receive) -> bytes | None:
    body = bytearray()
    length = 0
    more = True
    while more and length <= _MAX_DISCARDED:
        message = await receive()
        if message["type"] != "http.request":
            return None
        part = message.get("body", b"")
        length += len(part)
        if length <= MAX_BODY:
            body += part
        more = message.get("more_body", False)
    return bytes(body) if length <= MAX_BODY else None


async def send_answer(send: Send, answer: Answer) -> None:
    """Send a whole answer."""
    headers = [*answer.headers, ("content-length", str(len(answer.body))), ("server", user_agent("emulator"))]
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": encoded})
    await send({"type": "http.response.body", "body": answer.body})
