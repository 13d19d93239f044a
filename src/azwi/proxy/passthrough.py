"""Requests for the real Instance Metadata Service, passed on within bounds; answers stream, so memory has bounds, too.

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
from azwi.proxy.imds import Answer, Fault, StreamedAnswer, fault_answer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from azwi.proxy.imds import Forward, Request

CONNECT_SECONDS: Final = 1.0
TOTAL_SECONDS: Final = 10.0  # until the head of the answer is there, and as long again for the body
MAX_HEAD_BYTES: Final = 65_536
MAX_ANSWER_BYTES: Final = 16_777_216  # the largest documents are some 100 KB
_CHUNK: Final = 16_384
_OK: Final = 200
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

    async def forward(self, forward: Forward, request: Request, body: bytes) -> Answer | StreamedAnswer:
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
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, UnusableError):
            return _error(_BAD_GATEWAY, "The metadata service gave an answer that cannot be passed on")

    async def _ask(self, head_and_body: bytes, method: str) -> Answer | StreamedAnswer:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                reader, writer = await asyncio.open_connection(self._host, self._port, limit=_CHUNK)
        except TimeoutError as problem:
            raise ConnectionError("no connection in time") from problem
        incoming = _Incoming(reader, writer, method)
        try:
            writer.write(head_and_body)
            await incoming.read_head()
        except BaseException:
            incoming.close()
            raise
        return incoming.answer(self._seconds)


class UnusableError(Exception):
    """The upstream's answer is too large or ends early."""


class _Incoming:
    """One answer of the service while it arrives. Its callbacks are httptools'."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: str) -> None:
        self._reader = reader
        self._writer = writer
        self._head_only = method == "HEAD"
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[str, str]] = []
        self._parts: list[bytes] = []
        self._whole_head = False
        self._whole = False
        self._received = 0

    def on_header(self, name: bytes, value: bytes | None) -> None:
        """Collect one header."""
        self._headers.append((name.decode("latin-1"), (value or b"").decode("latin-1").strip()))

    def on_headers_complete(self) -> None:
        """The head is whole, unless it only says that there will be another."""
        self._whole_head = self._parser.get_status_code() >= _OK
        if not self._whole_head:
            self._headers = []

    def on_body(self, part: bytes) -> None:
        """Collect a part of the body."""
        self._parts.append(part)

    def on_message_complete(self) -> None:
        """The answer is whole, unless it only says that there will be another."""
        self._whole = self._whole_head

    async def read_head(self) -> None:
        """Read until the head is whole.

        Raises:
            UnusableError: It never is, or is too large, or announces too large a body.
        """
        while not self._whole_head:
            if not await self._feed() or (not self._whole_head and self._received > MAX_HEAD_BYTES):
                raise UnusableError
        length = self._find("content-length")
        if length is not None and not self._bodiless() and int(length) > MAX_ANSWER_BYTES:
            raise UnusableError

    def answer(self, seconds: float) -> Answer | StreamedAnswer:
        """The answer with its body to come, or whole where there is none."""
        status, headers = self._parser.get_status_code(), tuple(_end_to_end(self._headers))
        length = self._find("content-length")
        if self._bodiless():
            self.close()
            return Answer(status, headers if length is None else (*headers, ("Content-Length", length)), b"")
        return StreamedAnswer(status, headers, None if length is None else int(length), self._stream(), seconds)

    def close(self) -> None:
        """End the connection to the service."""
        self._writer.close()

    async def _stream(self) -> AsyncGenerator[bytes, None]:
        """The body's parts as they come.

        Raises:
            UnusableError: It ends early or is too large.
        """
        try:
            while True:
                parts, self._parts = self._parts, []
                for part in parts:
                    yield part
                if self._whole:
                    return
                if not await self._feed():
                    if self._is_framed() and not self._whole:
                        raise UnusableError
                    self._whole = True
                if self._received > MAX_ANSWER_BYTES:
                    raise UnusableError
        finally:
            self.close()

    async def _feed(self) -> bool:
        """Give the parser what has come; False at the end."""
        data = await self._reader.read(_CHUNK)
        self._received += len(data)
        if data:
            self._parser.feed_data(data)
        return bool(data)

    def _bodiless(self) -> bool:
        return self._head_only or self._parser.get_status_code() in _NO_BODY

    def _is_framed(self) -> bool:
        return self._find("content-length") is not None or self._find("transfer-encoding") is not None

    def _find(self, wanted: str) -> str | None:
        return next((value for name, value in self._headers if name.lower() == wanted), None)


def _write_request(forward: Forward, request: Request, body: bytes) -> bytes:
    lines = [f"{request.method} {forward.target} HTTP/1.1", f"Host: {METADATA_ADDRESS}"]
    lines += [f"{name}: {value}" for name, value in _end_to_end(request.headers)]
    lines += [f"{LOOP_HEADER}: 1", "Connection: close"]
    if body or request.method in ("POST", "PUT", "PATCH"):
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


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
