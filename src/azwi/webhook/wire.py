"""Answers in one piece: head and body of a response leave in one TLS record and one system call.

uvicorn writes them one after the other, so the peer wakes up twice, on a busy machine in the server's place. One piece
saves a tenth of a review's CPU (docs/decisions/0008-answers-in-one-piece.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio

REQUEST_SECONDS: Final = 32.0  # for a request to come whole; an API server gives a webhook 30 at most
_HEAD: Final = b"HTTP/1.1 "  # what each response of uvicorn begins with


class _WholeAnswers:
    """A transport that keeps a response's head back until its body is written, or until the loop's next turn."""

    __slots__ = ("_head", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def write(self, data: bytes) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head + data)
        elif data.startswith(_HEAD):
            self._head = data
            self._loop.call_soon(self._flush)
        else:
            self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # the rest of the transport
        return getattr(self._transport, name)


class WholeAnswersProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, over such a transport, and only for peers that send their requests in time."""

    request_seconds: ClassVar[float] = REQUEST_SECONDS
    _since = 0.0  # when the request that is arriving began, by the loop's clock; 0 for none
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to serve a connection."""
        super().connection_made(_WholeAnswers(transport, self.loop))  # type: ignore[arg-type]
        self._begin()

    def on_message_begin(self) -> None:
        """A request begins; the first one has begun with the connection."""
        super().on_message_begin()
        if not self._since:
            self._begin()

    def on_message_complete(self) -> None:
        """The request is there, whole."""
        self._since = 0.0
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _begin(self) -> None:
        """Note the time; the timer goes on until it fires, so that a busy connection costs one in half a minute."""
        self._since = self.loop.time()
        if self._timer is None:
            self._timer = self.loop.call_at(self._since + self.request_seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._since:
            return
        if self.loop.time() - self._since >= self.request_seconds:
            self.transport.abort()
        else:
            self._timer = self.loop.call_at(self._since + self.request_seconds, self._look)
