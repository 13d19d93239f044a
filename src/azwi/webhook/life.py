"""The life of the process: its listening sockets, its servers, and the way it ends."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import signal
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from azwi.errors import ConfigurationError
from azwi.webhook.wire import WholeAnswersProtocol

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Coroutine, Iterator, Sequence

    from azwi.webhook.settings import Address

# The API server drops idle connections after 90 s; the side that is longer never closes under the other's hands (D 22).
KEEP_ALIVE: Final = 120  # seconds
DRAIN: Final = 5  # seconds until open requests are given up
LAST_WORDS: Final = 3  # seconds for what runs beside, such as giving up a lease
REFRESH: Final = 1.0  # seconds between two looks at files
_BACKLOG: Final = 2048

# glibc gives free memory above 128 KiB back to the kernel and asks for it again at the next request. Keeping one MiB
# saves a quarter of a review's CPU (`make bench`). Numbers of the parameters: malloc.h.
_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_MMAP_THRESHOLD: Final = -3
_KEPT_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Port:
    """One listening socket with the ASGI application behind it."""

    socket: socket.socket
    app: Any
    context: ssl.SSLContext | None = None


def listen(address: Address, flag: str) -> socket.socket:
    """A listening socket; on both IP families where the host is empty.

    Raises:
        ConfigurationError: The address cannot be had; names the flag.
    """
    host, family = address.host, socket.AF_INET6 if ":" in address.host else socket.AF_INET
    dual = not host and socket.has_dualstack_ipv6()
    try:
        return socket.create_server(
            (host, address.port),
            family=socket.AF_INET6 if dual else family,
            dualstack_ipv6=dual,
            backlog=_BACKLOG,
        )
    except (OSError, OverflowError) as problem:
        shown = f"{host or '*'}:{address.port}"
        raise ConfigurationError(f"flag --{flag}: cannot listen on {shown}: {problem}") from problem


def keep_heap() -> None:
    """Let the allocator keep a little free memory instead of returning it after each request; glibc only."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_TOP_PAD, _KEPT_BYTES)
        # Setting one of them pins this one to 128 KiB, and a buffer above it is mapped and unmapped for each request.
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)


class _Server(uvicorn.Server):
    """A server that leaves signals to the process, which has several of them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server(port: Port) -> _Server:
    context = port.context
    return _Server(
        uvicorn.Config(
            port.app,
            loop="none",
            http=WholeAnswersProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=DRAIN,
            ssl_context_factory=None if context is None else lambda *_: context,
        )
    )


async def serve(
    ports: Sequence[Port],
    on_start: Callable[[], None],
    on_stop: Callable[[], None],
    refresh: Sequence[Callable[[], None]],
    beside: Sequence[Callable[[], Coroutine[Any, Any, None]]] = (),
    delay: float = 0.0,
) -> None:
    """Serve all ports until SIGTERM or SIGINT, go on for a while, then answer what is open and return.

    Args:
        ports: What to serve.
        on_start: Called once all ports are served.
        on_stop: Called when a signal came, before the ports close.
        refresh: Called every second.
        delay: Seconds that the ports are served after SIGTERM, since API servers go on calling until they know that
            this replica goes (D 22). SIGINT, or a second signal, ends at once.
        beside: Run as long as the ports are served; one that ends with an error ends the program.
    """
    stop, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def asked_to_stop(number: int) -> None:
        if number == signal.SIGINT or stop.is_set():
            hurry.set()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop, number)
    servers = [_server(port) for port in ports]
    tasks = [
        asyncio.create_task(server.serve(sockets=[port.socket])) for server, port in zip(servers, ports, strict=True)
    ]
    await _until_started(servers)
    on_start()
    background = [asyncio.create_task(_refresh(refresh)), *(asyncio.create_task(run()) for run in beside)]

    def stop_if_failed(ended: asyncio.Task[None]) -> None:
        if _has_failed(ended):
            hurry.set()
            stop.set()

    for task in background:
        task.add_done_callback(stop_if_failed)
    await stop.wait()
    on_stop()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(hurry.wait(), delay)
    failed = [task for task in background if task.done() and _has_failed(task)]
    for task in background:
        task.cancel()
    for server in servers:
        _abort_idle(server)
        server.should_exit = True
    await asyncio.gather(*tasks)
    await asyncio.wait(background, timeout=LAST_WORDS)
    for task in failed:
        task.result()  # raises what it failed with


def _has_failed(task: asyncio.Task[None]) -> bool:
    return not task.cancelled() and task.exception() is not None


def _abort_idle(server: uvicorn.Server) -> None:
    """Drop connections that wait for a next request: a TLS close would wait for peers that do not read."""
    for connection in list(server.server_state.connections):
        cycle = getattr(connection, "cycle", None)
        if connection.transport is not None and (cycle is None or cycle.response_complete):
            connection.transport.abort()


async def _until_started(servers: Sequence[uvicorn.Server]) -> None:
    while not all(server.started for server in servers):  # noqa: ASYNC110  # uvicorn offers no event
        await asyncio.sleep(0.005)


async def _refresh(actions: Sequence[Callable[[], None]]) -> None:
    while True:
        await asyncio.sleep(REFRESH)
        for action in actions:
            action()
