"""The life of the proxy's servers: listen, serve until a signal, stop."""

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

STOP_SECONDS: Final = 1.5  # [D 30] the program ends within 2 s of SIGTERM
_log = logger("proxy")


@dataclass(frozen=True, slots=True)
class Listener:
    """A server and its address; `flag` is what chooses the port, for errors."""

    server: HttpServer
    host: str
    port: int
    flag: str


async def serve_until_signal(listeners: Sequence[Listener]) -> None:
    """Serve all of them until SIGTERM or SIGINT, then end what is open.

    Raises:
        ConfigurationError: An address cannot be listened on.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    try:
        for listener in listeners:
            await _listen(listener)
        await stopped.wait()
        _log.info("stopping")
    finally:
        await asyncio.gather(*(listener.server.stop(STOP_SECONDS) for listener in listeners))


async def _listen(listener: Listener) -> None:
    try:
        port = await listener.server.listen(listener.host, listener.port)
    except OSError as problem:
        raise ConfigurationError(
            f"{listener.host}:{listener.port} cannot be listened on: {problem.strerror}",
            hint=f"choose another port with {listener.flag}",
        ) from problem
    _log.info("listening", extra={"fields": {"address": f"{listener.host}:{port}"}})
