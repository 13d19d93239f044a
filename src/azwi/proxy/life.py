"""The life of the proxy's servers: listen, serve until a signal, drain, stop."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from azwi.errors import ConfigurationError
from azwi.log import logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from azwi.proxy.server import HttpServer

STOP_SECONDS: Final = 1.5  # [D 30] the program ends within 2 s of SIGTERM, unless it drains
QUIET_SECONDS: Final = 5.0  # [D 30] without a request, after which a drain is over
_LOOK_SECONDS: Final = 0.1
_log = logger("proxy")


@dataclass(frozen=True, slots=True)
class Listener:
    """A server and its address; `flag` is what chooses the port, for errors."""

    server: HttpServer
    host: str
    port: int
    flag: str


class Life:
    """When the program ends.

    A native sidecar gets SIGTERM after the application, so there is nobody left to serve. A plain one gets it together
    with the application, which may still need tokens to end well: then the program drains first.

    Args:
        drain_seconds: How long a drain may take at most; 0 for none.
        quiet_seconds: Without a request, after which it is over.
    """

    def __init__(self, drain_seconds: float = 0.0, quiet_seconds: float = QUIET_SECONDS) -> None:
        self._drain_seconds = drain_seconds
        self._quiet_seconds = quiet_seconds
        self._signalled = asyncio.Event()
        self._ended = asyncio.Event()

    def end(self) -> None:
        """Stop without a drain."""
        self._signalled.set()
        self._ended.set()

    def _take_signal(self) -> None:
        """Begin to drain; a second signal ends that."""
        if self._signalled.is_set():
            self._ended.set()
        self._signalled.set()

    async def serve(self, listeners: Sequence[Listener]) -> None:
        """Serve all of them until SIGTERM, SIGINT or `end`; the first is the one that drains.

        Raises:
            ConfigurationError: An address cannot be listened on.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._take_signal)
        try:
            for listener in listeners:
                await _listen(listener)
            await self._signalled.wait()
            if self._drain_seconds and not self._ended.is_set():
                _log.info("draining", extra={"fields": {"seconds": self._drain_seconds}})
                await self._drain(listeners[0].server)
            _log.info("stopping")
        finally:
            await asyncio.gather(*(listener.server.stop(STOP_SECONDS) for listener in listeners))

    async def _drain(self, server: HttpServer) -> None:
        """Go on until the application has not asked for a while."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._drain_seconds
        seen, quiet_until = server.requests, loop.time() + self._quiet_seconds
        while loop.time() < min(deadline, quiet_until) and not self._ended.is_set():
            await asyncio.sleep(_LOOK_SECONDS)
            if server.requests != seen or server.busy:
                seen, quiet_until = server.requests, loop.time() + self._quiet_seconds


async def _listen(listener: Listener) -> None:
    try:
        port = await listener.server.listen(listener.host, listener.port)
    except OSError as problem:
        raise ConfigurationError(
            f"{listener.host}:{listener.port} cannot be listened on: {problem.strerror}",
            hint=f"choose another port with {listener.flag}",
        ) from problem
    _log.info("listening", extra={"fields": {"address": f"{listener.host}:{port}"}})
