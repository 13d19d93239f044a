"""Requests for the real Instance Metadata Service, passed on within bounds.

Which requests come here is decided in `paths`; none of them is about identities. No redirect is followed, and an
address outside of Azure gives an error at once instead of a wait.

Source: D 28; RFC 9110 section 7.6.1 (headers of one hop).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import httptools

from azwi.contract import METADATA_ADDRESS, METADATA_PORT
from azwi.log import logger
from azwi.proxy.imds import Answer, Fault, fault_answer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from azwi.proxy.imds import Forward, Request

CONNECT_SECONDS: Final = 1.0
TOTAL_SECONDS: Final = 10.0
MAX_ANSWER_BYTES: Final = 1_048_576
_CHUNK: Final = 65_536
_BAD_GATEWAY: Final = 502
_GATEWAY_TIMEOUT: Final = 504
_LOOP_DETECTED: Final = 508  # RFC 5842 section 7.2

# Set on what is passed on: if the redirect does not exempt us, our own request comes back to us.
LOOP_HEADER: Final = "azwi-proxy-passthrough"
_ONE_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# Ours say these of the body as it is passed on.
_FRAMING: Final = frozenset({"content-length", "expect", "host"})
_NO_BODY: Final = frozenset({204, 304})
_log = logger("proxy")


class Upstream:
    """The real service at one address, with the seconds that one request may take."""

    def __init__(self, host: str = METADATA_ADDRESS, port: int = METADATA_PORT, seconds: float = TOTAL_SECONDS) -> None:
        self._host = host
        self._port = port
        self._seconds = seconds

    async def forward(self, forward: Forward, request: Request, body: bytes) -> Answer:
        """The service's answer, or an error as JSON when there is none within the bounds."""
        if any(name == LOOP_HEADER for name, _ in request.headers):
            return _error(_LOOP_DETECTED, "The request came back to azwi-proxy: the redirect does not exempt its user")
        try:
            async with asyncio.timeout(self._seconds):
                return await self._ask(_write_request(forward, request, body), request.method)
        except TimeoutError:
            return _error(_GATEWAY_TIMEOUT, f"The metadata service did not answer within {self._seconds:.0f} s")
        except OSError:
            text = "The metadata service cannot be reached; it exists on Azure's virtual machines only"
            return _error(_BAD_GATEWAY, text)
        except (httptools.HttpParserError, _UnusableError):
            return _error(_BAD_GATEWAY, "The metadata service gave an answer that cannot be passed on")

    async def _ask(self, head_and_body: bytes, method: str) -> Answer:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                reader, writer = await asyncio.open_connection(self._host, self._port)
        except TimeoutError as problem:
            raise ConnectionError("no connection in time") from problem
        try:
            writer.write(head_and_body)
            return await _read_answer(reader, method)
        finally:
            writer.close()


class _UnusableError(Exception):
    """The upstream's answer is too large or ends early."""


class _Collector:
    """Collects one answer from httptools."""

    def __init__(self) -> None:
        self.headers: list[tuple[str, str]] = []
        self.body = bytearray()
        self.whole_head = False
        self.whole = False

    def on_header(self, name: bytes, value: bytes | None) -> None:
        """Collect one header."""
        self.headers.append((name.decode("latin-1"), (value or b"").decode("latin-1").strip()))

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self.whole_head = True

    def on_body(self, part: bytes) -> None:
        """Collect the body."""
        self.body += part

    def on_message_complete(self) -> None:
        """The answer is whole."""
        self.whole = True


def _write_request(forward: Forward, request: Request, body: bytes) -> bytes:
    lines = [f"{request.method} {forward.target} HTTP/1.1", f"Host: {METADATA_ADDRESS}"]
    lines += [f"{name}: {value}" for name, value in _end_to_end(request.headers)]
    lines += [f"{LOOP_HEADER}: 1", "Connection: close"]
    if body or request.method in ("POST", "PUT", "PATCH"):
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


async def _read_answer(reader: asyncio.StreamReader, method: str) -> Answer:
    collector = _Collector()
    parser = httptools.HttpResponseParser(collector)
    received = 0
    while not (collector.whole or (collector.whole_head and method == "HEAD")):
        data = await reader.read(_CHUNK)
        if not data:
            break
        received += len(data)
        if received > MAX_ANSWER_BYTES:
            raise _UnusableError
        parser.feed_data(data)
    status = parser.get_status_code()
    names = {name.lower() for name, _ in collector.headers}
    framed = "content-length" in names or "transfer-encoding" in names
    if not collector.whole_head or (framed and not collector.whole and method != "HEAD"):
        raise _UnusableError
    headers = tuple(_end_to_end(collector.headers))
    if method == "HEAD" or status in _NO_BODY:
        lengths = [header for header in collector.headers if header[0].lower() == "content-length"]
        return Answer(status, (*headers, *(("Content-Length", value) for _, value in lengths[:1])), b"")
    return Answer(status, headers, bytes(collector.body))


def _end_to_end(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The headers that are not for one hop only, nor about the framing of the body."""
    headers = list(headers)
    named = {
        word.strip().lower() for name, value in headers if name.lower() == "connection" for word in value.split(",")
    }
    dropped = _ONE_HOP | _FRAMING | named
    return [(name, value) for name, value in headers if name.lower() not in dropped]


def _error(status: int, description: str) -> Answer:
    _log.info("not passed on to the metadata service", extra={"fields": {"status": status, "reason": description}})
    return fault_answer(Fault(status, description, "upstream_unavailable"))
