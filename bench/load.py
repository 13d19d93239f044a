"""Reviews over several TLS connections at once, from another core than the server's; for throughput and latency."""

from __future__ import annotations

import os
import selectors
import socket
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

CONNECTIONS = 8
SECONDS = 5.0


@dataclass(frozen=True)
class Throughput:
    """Reviews a second, and milliseconds in which 99 of 100 were answered."""

    rate: float
    p99: float


@contextmanager
def own_core(pid: int) -> Iterator[None]:
    """The server on one core, with all of its threads, the client on the others; as far as there are several."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {cores[0]})
        os.sched_setaffinity(0, set(cores[1:]))
    try:
        yield
    finally:
        os.sched_setaffinity(0, set(cores))


def measure_throughput(port: int, request: bytes, context: ssl.SSLContext) -> Throughput:
    """Keep all connections busy for some seconds, each with one review at a time."""
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        sent: dict[ssl.SSLSocket, float] = {}
        for _ in range(CONNECTIONS):
            plain = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = stack.enter_context(context.wrap_socket(plain, server_hostname="localhost"))
            selector.register(connection, selectors.EVENT_READ)
            connection.sendall(request)
            sent[connection] = time.perf_counter()
        latencies: list[float] = []
        begun = time.perf_counter()
        while (now := time.perf_counter()) < begun + SECONDS:
            for key, _ in selector.select(1.0):
                connection = key.fileobj  # type: ignore[assignment]  # what was registered
                _read_answer(connection)
                now = time.perf_counter()
                latencies.append(now - sent[connection])
                sent[connection] = now
                connection.sendall(request)
        latencies.sort()
        return Throughput(len(latencies) / (now - begun), latencies[len(latencies) * 99 // 100] * 1000)


def _read_answer(connection: ssl.SSLSocket) -> None:
    """Read one answer whole."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(65536)
    head, _, rest = answer.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    missing = length - len(rest)
    while missing > 0:
        missing -= len(connection.recv(65536))
