"""One HTTP/1.1 or 1.0 connection: moves bytes, keeps bounds, knows nothing of tokens.

The parser is llhttp in its strict mode (httptools), which refuses what servers read in different ways: both a
Content-Length and a Transfer-Encoding, bare line feeds, blanks in header names.

Source: RFC 9112.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol

import httptools

from azwi.log import logger
from azwi.proxy.imds import Answer, Request, StreamedAnswer
from azwi.proxy.incoming import Incoming

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from azwi.proxy.incoming import Refusal

    AnyAnswer = Answer | StreamedAnswer
    Handler = Callable[[Request, bytes], AnyAnswer | Awaitable[AnyAnswer]]

MAX_PIPELINED: Final = 16  # requests of one connection that wait for their turn
REQUEST_SECONDS: Final = 5.0  # for a whole request to arrive, as the reference's header time-out
IDLE_SECONDS: Final = 75.0  # between two requests

_TEXT: Final = ("Content-Type", "text/plain; charset=utf-8")
_log = logger("proxy")


class Accepting(Protocol):
    """What a connection needs of the server that accepted it.

    `buffer` is room for what is read, `requests` counts those that have come, `stopping` says that all is to end.
    """

    handler: Handler
    request_seconds: float
    stopping: bool
    requests: int
    buffer: memoryview

    def admit(self, connection: Connection) -> bool:
        """Whether one more connection may be served."""

    def forget(self, connection: Connection) -> None:
        """The connection is gone."""

    def head(self, headers: tuple[tuple[str, str], ...]) -> bytes:
        """The headers that every answer has and these lack."""


class Connection(asyncio.BufferedProtocol):
    """One connection: requests are answered one after the other, in the order they came."""

    def __init__(self, server: Accepting) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[Request, bytes, bool]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0
        self._refusal: Answer | None = None
        self._incoming = Incoming()
        self._receiving = False
        self._upgrading: Request | None = None
        self._writable = True
        self._drained: asyncio.Future[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a request waits for its answer."""
        return self._task is not None

    # --- asyncio.BufferedProtocol -----------------------------------------------------------------------------------

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
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._resume_reading()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Where the next bytes go. All connections use the same room, since the parser takes what it needs at once.

        With a plain protocol asyncio would ask for 256 KiB for each read, which the C library maps anew each time.
        """
        return self._server.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Feed the parser within the bounds of a head; its callbacks collect and answer requests."""
        if self._refusal is not None:
            return
        data = self._server.buffer[:nbytes]
        if self._upgrading is not None:
            self._take_rest(self._upgrading, data)
            return
        self._incoming.fed += nbytes
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._take_rest(self._upgrading, data[upgrade.args[0] :])
        except httptools.HttpParserError:
            if self._refusal is None:
                self._refuse((400, "the request is no HTTP"))
        self._refuse(self._incoming.find_excess())

    # --- httptools' callbacks ---------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins to arrive; from here on it has so many seconds."""
        self._receiving = True
        if self._task is None:
            self._set_deadline(self._server.request_seconds)

    def on_url(self, part: bytes) -> None:
        """Collect the target."""
        self._refuse(self._incoming.take_url(part))

    def on_header(self, name: bytes, value: bytes | None) -> None:
        """Collect one header."""
        self._refuse(self._incoming.take_header(name, value or b""))

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._incoming.whole_head = True

    def on_body(self, part: bytes) -> None:
        """Collect the body."""
        self._refuse(self._incoming.take_body(part))

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
        if self._parser.should_upgrade():
            self._upgrading = request  # the parser takes what follows for another protocol
            return
        message = (request, bytes(self._incoming.body), self._parser.should_keep_alive())
        self._incoming = Incoming()
        self._receiving = False
        self._take(message)

    def _take_rest(self, request: Request | None, part: memoryview) -> None:
        if request is None or not self._receiving:  # refused, or answered: it was the last one
            return
        rest = self._incoming.take_rest(request, part)
        if isinstance(rest, bytes):
            self._receiving = False
            self._take((request, rest, False))
        else:
            self._refuse(rest)

    def _take(self, message: tuple[Request, bytes, bool]) -> None:
        if self._task is None:
            self._answer(*message)
        elif len(self._waiting) < MAX_PIPELINED:
            self._waiting.append(message)
        else:
            self._refuse((400, "too many requests at once"))

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
        self._server.requests += 1
        answer: AnyAnswer | Awaitable[AnyAnswer]
        try:
            answer = self._server.handler(request, body)
        except Exception:  # noqa: BLE001 - a defect of ours must not take the connection's other requests along
            answer = _defect()
        if isinstance(answer, Answer):
            self._write(answer, keep_alive=keep_alive, request=request)
            return
        self._set_deadline(None)
        if self._transport is not None:
            self._transport.pause_reading()
        self._task = self._loop.create_task(self._answer_later(answer, request, keep_alive=keep_alive))

    async def _answer_later(
        self, pending: AnyAnswer | Awaitable[AnyAnswer], request: Request, *, keep_alive: bool
    ) -> None:
        try:
            answer = pending if isinstance(pending, Answer | StreamedAnswer) else await pending
        except Exception:  # noqa: BLE001 - a defect of ours must not take the connection's other requests along
            answer = _defect()
        if isinstance(answer, StreamedAnswer):
            await self._stream(answer, request, keep_alive=keep_alive)
            self._task = None
        else:
            self._task = None
            self._write(answer, keep_alive=keep_alive, request=request)
        while self._waiting and self._task is None and self._is_open():
            self._answer(*self._waiting.popleft())
        if self._task is None and self._is_open():
            if self._refusal is not None:
                self._write(self._refusal, keep_alive=False)
            else:
                self._resume_reading()

    async def _stream(self, answer: StreamedAnswer, request: Request, *, keep_alive: bool) -> None:
        """Write a body as it comes; where it cannot be finished the connection breaks, lest somebody take it for whole.

        Source: RFC 9112 sections 7.1 (chunked, which HTTP/1.0 does not know) and 8 (incomplete messages).
        """
        chunked = answer.length is None and request.version != "1.0"
        headers = answer.headers
        if chunked:
            headers = (*headers, ("Transfer-Encoding", "chunked"))
        elif answer.length is not None:
            headers = (*headers, ("Content-Length", str(answer.length)))
        else:
            keep_alive = False  # the end of the connection is the end of the body
        keep_alive = keep_alive and not self._server.stopping
        try:
            self._send(self._render_head(answer.status, headers, request, keep_alive=keep_alive))
            async with asyncio.timeout(answer.seconds), contextlib.aclosing(answer.parts) as parts:
                async for part in parts:
                    self._send(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
                    await self._wait_until_writable()
        except asyncio.CancelledError:
            raise
        except Exception as problem:  # noqa: BLE001 - whatever it is, the answer is not whole
            _log.info("an answer was not passed on whole", extra={"fields": {"reason": type(problem).__name__}})
            self.abort()
            return
        if chunked:
            self._send(b"0\r\n\r\n")
        self._end_answer(keep_alive=keep_alive)

    def _send(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    async def _wait_until_writable(self) -> None:
        if not self._writable:
            self._drained = self._loop.create_future()
            await self._drained

    def _resume_reading(self) -> None:
        """Take more from the client, unless it owes us something or we owe it an answer."""
        if self._transport is not None and self._writable and self._task is None:
            self._transport.resume_reading()

    def _refuse(self, refusal: Refusal | None) -> None:
        """Answer what was asked before, then this, then close; nothing is done where nothing is refused."""
        if refusal is None or self._refusal is not None:
            return
        status, text = refusal
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
        headers = answer.headers
        if not any(name == "Content-Length" for name, _ in headers):
            headers = (*headers, ("Content-Length", str(len(answer.body))))
        head = self._render_head(answer.status, headers, request, keep_alive=keep_alive)
        transport.write(head if request is not None and request.method == "HEAD" else head + answer.body)
        self._end_answer(keep_alive=keep_alive)

    def _render_head(
        self, status: int, headers: tuple[tuple[str, str], ...], request: Request | None, *, keep_alive: bool
    ) -> bytes:
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers)
        if not keep_alive:
            fields += "Connection: close\r\n"
        elif request is not None and request.version == "1.0":
            fields += "Connection: keep-alive\r\n"
        return b"".join((_status_line(status), self._server.head(headers), fields.encode("latin-1"), b"\r\n"))

    def _end_answer(self, *, keep_alive: bool) -> None:
        """Wait for the next request, or close."""
        if keep_alive:
            self._set_deadline(self._server.request_seconds if self._receiving else IDLE_SECONDS)
        elif self._transport is not None:
            self._transport.close()
            self._set_deadline(self._server.request_seconds)  # for the client to read what there is

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
        if not self._deadline or self._transport is None:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._check_deadline)
        elif self._transport.is_closing() or not self._writable:
            self.abort()
        elif self._receiving:
            self._refuse((408, "the request took too long to arrive"))
        elif self._transport is not None:
            self._transport.close()


def _defect() -> Answer:
    """The answer to a request that we failed at; called where the failure is being handled."""
    _log.exception("a request could not be answered")
    return Answer(500, (_TEXT,), b"internal error")


@lru_cache(maxsize=64)
def _status_line(status: int) -> bytes:
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = "Status"
    return f"HTTP/1.1 {status} {reason}\r\n".encode()
