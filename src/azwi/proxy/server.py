"""HTTP/1.1 and 1.0 over asyncio: moves bytes, keeps bounds, knows nothing of tokens.

The parser is llhttp in its strict mode (httptools), which refuses what servers read in different ways: both a
Content-Length and a Transfer-Encoding, bare line feeds, blanks in header names.

Source: RFC 9112.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import httptools

from azwi.log import logger
from azwi.proxy.imds import Answer, Request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Handler = Callable[[Request, bytes], Answer | Awaitable[Answer]]

MAX_HEAD_BYTES: Final = 16_384  # request line and headers
MAX_HEADERS: Final = 100
MAX_BODY_BYTES: Final = 65_536
MAX_CONNECTIONS: Final = 256
MAX_PIPELINED: Final = 16  # requests of one connection that wait for their turn
REQUEST_SECONDS: Final = 5.0  # for a whole request to arrive, as the reference's header time-out
IDLE_SECONDS: Final = 75.0  # between two requests

_TEXT: Final = ("Content-Type", "text/plain; charset=utf-8")
_log = logger("proxy")


class HttpServer:
    """One listening address and its connections.

    Args:
        handler: Answers one request; at once, or with something to wait for. What it raises becomes a 500.
        name: The Server header.
        request_seconds: How long a request may take to arrive.
        max_connections: How many may be open; more are answered with a 503.
    """

    def __init__(
        self,
        handler: Handler,
        name: str,
        *,
        request_seconds: float = REQUEST_SECONDS,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self.handler = handler
        self.request_seconds = request_seconds
        self.stopping = False
        self._name = name
        self._max_connections = max_connections
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._all_gone = asyncio.Event()
        self._head_second = 0
        self._head = b""

    async def listen(self, host: str, port: int) -> int:
        """Begin to accept connections; the port that was really taken, which differs for port 0.

        Raises:
            OSError: The address cannot be had.
        """
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), host, port, backlog=256)
        taken: int = self._server.sockets[0].getsockname()[1]
        return taken

    async def stop(self, seconds: float) -> None:
        """Accept no more, end idle connections, give busy ones so many seconds, then drop them."""
        self.stopping = True
        if self._server is not None:
            self._server.close()
        for connection in tuple(self._connections):
            connection.end_when_idle()
        if self._connections:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_gone.wait(), seconds)
        for connection in tuple(self._connections):
            connection.abort()

    def admit(self, connection: Connection) -> bool:
        """Whether one more connection may be served."""
        if self.stopping or len(self._connections) >= self._max_connections:
            return False
        self._connections.add(connection)
        return True

    def forget(self, connection: Connection) -> None:
        """The connection is gone."""
        self._connections.discard(connection)
        if self.stopping and not self._connections:
            self._all_gone.set()

    def head(self) -> bytes:
        """The headers that every answer has; written anew each second, for the Date."""
        now = time.time()
        if int(now) != self._head_second:
            self._head_second = int(now)
            self._head = f"Server: {self._name}\r\nDate: {formatdate(now, usegmt=True)}\r\n".encode("latin-1")
        return self._head


class _Incoming:
    """The part of a request that has arrived."""

    __slots__ = ("body", "collected", "fed", "headers", "url", "whole_head")

    def __init__(self) -> None:
        self.url = b""
        self.headers: list[tuple[str, str]] = []
        self.body = bytearray()
        self.fed = 0  # bytes given to the parser while the head was not whole
        self.collected = 0  # bytes of names and values
        self.whole_head = False


class Connection(asyncio.Protocol):
    """One connection: requests are answered one after the other, in the order they came."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[Request, bytes, bool]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0
        self._refusal: Answer | None = None
        self._incoming = _Incoming()
        self._receiving = False
        self._writable = True

    # --- asyncio.Protocol ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or refuse it when there are too many."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what create_server makes
        self._transport = transport
        if self._server.admit(self):
            self._set_deadline(self._server.request_seconds)
        else:
            self._write(Answer(503, (_TEXT, ("Retry-After", "1")), b"too many connections"), keep_alive=False)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Forget the connection; a request that is being answered ends here, its exchange does not."""
        self._server.forget(self)
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        """The client does not read: take nothing more from it."""
        self._writable = False
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._writable = True
        self._resume_reading()

    def data_received(self, data: bytes) -> None:
        """Feed the parser within the bounds of a head; its callbacks collect and answer requests."""
        if self._refusal is not None:
            return
        if not self._incoming.whole_head:
            self._incoming.fed += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # a wish for another protocol, answered like any other request and with the end of the connection
        except httptools.HttpParserError:
            if self._refusal is None:
                self._refuse(400, "the request is no HTTP")
        if not self._incoming.whole_head and self._incoming.fed > MAX_HEAD_BYTES:
            self._refuse(431, "the headers are too large")

    # --- httptools' callbacks ---------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins to arrive; from here on it has so many seconds."""
        self._receiving = True
        if self._task is None:
            self._set_deadline(self._server.request_seconds)

    def on_url(self, part: bytes) -> None:
        """Collect the target."""
        self._incoming.url += part
        self._incoming.collected += len(part)
        if self._incoming.collected > MAX_HEAD_BYTES:
            self._refuse(431, "the target is too long")

    def on_header(self, name: bytes, value: bytes | None) -> None:
        """Collect one header."""
        incoming, content = self._incoming, value or b""
        incoming.headers.append((name.decode("latin-1").lower(), content.decode("latin-1").strip()))
        incoming.collected += len(name) + len(content)
        if len(incoming.headers) > MAX_HEADERS or incoming.collected > MAX_HEAD_BYTES:
            self._refuse(431, "the headers are too large")

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._incoming.whole_head = True

    def on_body(self, part: bytes) -> None:
        """Collect the body."""
        self._incoming.body += part
        if len(self._incoming.body) > MAX_BODY_BYTES:
            self._refuse(413, "the body is too large")

    def on_message_complete(self) -> None:
        """Answer the request, or queue it behind those before."""
        if self._refusal is not None:
            return
        request = Request(
            self._parser.get_method().decode("latin-1"),
            self._incoming.url.decode("latin-1"),
            self._incoming.headers,
            self._parser.get_http_version(),
        )
        keep_alive = self._parser.should_keep_alive() and not self._parser.should_upgrade()
        message = (request, bytes(self._incoming.body), keep_alive)
        self._incoming = _Incoming()
        self._receiving = False
        if self._task is None:
            self._answer(*message)
        elif len(self._waiting) < MAX_PIPELINED:
            self._waiting.append(message)
        else:
            self._refuse(400, "too many requests at once")

    # --- Answers ----------------------------------------------------------------------------------------------------

    def end_when_idle(self) -> None:
        """Close now, or after the answers that are outstanding."""
        if self._task is None and self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()

    def _answer(self, request: Request, body: bytes, keep_alive: bool) -> None:  # noqa: FBT001 - a message's third part
        answer = self._server.handler(request, body)
        if isinstance(answer, Answer):
            self._write(answer, keep_alive=keep_alive, request=request)
            return
        self._set_deadline(None)
        if self._transport is not None:
            self._transport.pause_reading()
        self._task = self._loop.create_task(self._answer_later(answer, request, keep_alive=keep_alive))

    async def _answer_later(self, pending: Awaitable[Answer], request: Request, *, keep_alive: bool) -> None:
        try:
            answer = await pending
        except Exception:  # noqa: BLE001 - a defect of ours must not take the connection's other requests along
            _log.exception("a request could not be answered")
            answer = Answer(500, (_TEXT,), b"internal error")
        self._task = None
        self._write(answer, keep_alive=keep_alive, request=request)
        while self._waiting and self._task is None and self._is_open():
            self._answer(*self._waiting.popleft())
        if self._task is None and self._is_open():
            if self._refusal is not None:
                self._write(self._refusal, keep_alive=False)
            else:
                self._resume_reading()

    def _resume_reading(self) -> None:
        """Take more from the client, unless it owes us something or we owe it an answer."""
        if self._transport is not None and self._writable and self._task is None:
            self._transport.resume_reading()

    def _refuse(self, status: int, text: str) -> None:
        """Answer what was asked before, then this, then close."""
        if self._refusal is not None:
            return
        self._refusal = Answer(status, (_TEXT,), text.encode())
        if self._task is None:
            self._write(self._refusal, keep_alive=False)

    def _is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def _write(self, answer: Answer, *, keep_alive: bool, request: Request | None = None) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        keep_alive = keep_alive and not self._server.stopping
        lines = [f"HTTP/1.1 {answer.status} {_reason(answer.status)}\r\n".encode(), self._server.head()]
        lines += [f"{name}: {value}\r\n".encode("latin-1") for name, value in answer.headers]
        if not any(name == "Content-Length" for name, _ in answer.headers):
            lines.append(b"Content-Length: %d\r\n" % len(answer.body))
        if not keep_alive:
            lines.append(b"Connection: close\r\n")
        elif request is not None and request.version == "1.0":
            lines.append(b"Connection: keep-alive\r\n")
        lines.append(b"\r\n")
        if request is None or request.method != "HEAD":
            lines.append(answer.body)
        transport.write(b"".join(lines))
        if keep_alive:
            self._set_deadline(self._server.request_seconds if self._receiving else IDLE_SECONDS)
        else:
            transport.close()

    # --- Time-outs --------------------------------------------------------------------------------------------------

    def _set_deadline(self, seconds: float | None) -> None:
        """End the connection after so many seconds, unless this is called again; None for never.

        The timer itself is set anew only when it fires too early, so a busy connection costs no timers.
        """
        self._deadline = 0.0 if seconds is None else self._loop.time() + seconds
        if seconds is None:
            return
        if self._timer is not None and self._timer.when() > self._deadline:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_at(self._deadline, self._check_deadline)

    def _check_deadline(self) -> None:
        self._timer = None
        if not self._deadline or not self._is_open():
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._check_deadline)
        elif self._receiving:
            self._refuse(408, "the request took too long to arrive")
        elif self._transport is not None:
            self._transport.close()


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Status"
