"""One listening address over asyncio, and the connections to it.

Source: RFC 9112.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Final

from azwi.proxy.connection import REQUEST_SECONDS, Connection

if TYPE_CHECKING:
    from azwi.proxy.connection import Handler

MAX_CONNECTIONS: Final = 256
_READ_BYTES: Final = 16_384


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
        self.requests = 0  # that have come so far
        self.buffer = memoryview(bytearray(_READ_BYTES))
        self._name = name
        self._max_connections = max_connections
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._all_gone = asyncio.Event()
        self._head_second = 0
        self._head = self._date = b""

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

    @property
    def busy(self) -> bool:
        """Whether a request waits for its answer."""
        return any(connection.busy for connection in self._connections)

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

    def head(self, headers: tuple[tuple[str, str], ...]) -> bytes:
        """The headers that every answer has and these lack; written anew each second, for the Date."""
        now = time.time()
        if int(now) != self._head_second:
            self._head_second = int(now)
            self._date = f"Date: {formatdate(now, usegmt=True)}\r\n".encode("latin-1")
            self._head = b"Server: %b\r\n%b" % (self._name.encode("latin-1"), self._date)
        given = {name.lower() for name, _ in headers}  # an answer that is passed on brings its own
        if "date" in given:
            return b"" if "server" in given else b"Server: %b\r\n" % self._name.encode("latin-1")
        return self._date if "server" in given else self._head
