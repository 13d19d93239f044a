"""A request while it arrives: what the parser found so far, within bounds. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from azwi.proxy.imds import Request

MAX_HEAD_BYTES: Final = 16_384  # request line and headers
MAX_HEADERS: Final = 100
MAX_BODY_BYTES: Final = 65_536
MAX_MESSAGE_BYTES: Final = MAX_HEAD_BYTES + 4 * MAX_BODY_BYTES  # with the sizes of its pieces, and trailers

Refusal = tuple[int, str]  # status and text
_LARGE_HEADERS: Final = (431, "the headers are too large")
_LARGE_BODY: Final = (413, "the body is too large")


class Incoming:
    """The part of a request that has arrived.

    Attributes:
        url: The target.
        headers: Names in lower case, and values.
        body: As far as it is here.
        fed: Bytes given to the parser.
        whole_head: Whether the head is complete.
    """

    __slots__ = ("_collected", "body", "fed", "headers", "url", "whole_head")

    def __init__(self) -> None:
        self.url = b""
        self.headers: list[tuple[str, str]] = []
        self.body = bytearray()
        self.fed = 0
        self.whole_head = False
        self._collected = 0  # bytes of target, names and values

    def find_excess(self) -> Refusal | None:
        """What is too much of it, whatever the parser has told of that yet."""
        if not self.whole_head and self.fed > MAX_HEAD_BYTES:
            return _LARGE_HEADERS
        return (413, "the request is too large") if self.fed > MAX_MESSAGE_BYTES else None

    def take_url(self, part: bytes) -> Refusal | None:
        """A part of the target."""
        self.url += part
        self._collected += len(part)
        return (431, "the target is too long") if self._collected > MAX_HEAD_BYTES else None

    def take_header(self, name: bytes, value: bytes) -> Refusal | None:
        """One header; trailers are none (RFC 9110 section 6.5.1)."""
        if self.whole_head:
            return None
        self.headers.append((name.decode("latin-1").lower(), value.decode("latin-1").strip()))
        self._collected += len(name) + len(value)
        too_many = len(self.headers) > MAX_HEADERS or self._collected > MAX_HEAD_BYTES
        return _LARGE_HEADERS if too_many else None

    def take_body(self, part: bytes) -> Refusal | None:
        """A part of the body."""
        self.body += part
        return _LARGE_BODY if len(self.body) > MAX_BODY_BYTES else None

    def take_rest(self, request: Request, part: memoryview) -> Refusal | bytes | None:
        """A part of what follows the head of a request that wishes for another protocol, which the parser leaves alone.

        Java's client wishes for HTTP/2 with each request on a new connection; it is answered like any other.

        Returns:
            The body once it is whole; None before.
        """
        self.body += part
        fields = dict(request.headers)
        length = int(fields.get("content-length", "0"))
        if "transfer-encoding" in fields:
            return 400, "a request for another protocol has its body in one piece here"
        if max(length, len(self.body)) > MAX_BODY_BYTES:
            return _LARGE_BODY
        return bytes(self.body[:length]) if len(self.body) >= length else None
