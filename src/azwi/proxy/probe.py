"""Asks a running proxy whether it is ready: the startup probe, and the postStart hook of a plain sidecar.

A bare socket, because a kubelet runs this each second and an HTTP client would be most of its cost.

Source: R 5 (probe), D 30.
"""

from __future__ import annotations

import socket
import time
from typing import Final

TRIES: Final = 7
PAUSE_SECONDS: Final = 1.0
TRY_SECONDS: Final = 5.0
_OK: Final = (b"HTTP/1.1 200 ", b"HTTP/1.0 200 ")


def probe(port: int, tries: int = TRIES, pause: float = PAUSE_SECONDS) -> bool:
    """Whether the proxy on 127.0.0.1 says that it is ready, within a number of tries.

    A refused connection counts as one try: the proxy may still be starting.

    Args:
        port: Where it listens.
        tries: How often it is asked.
        pause: Seconds between the beginnings of two tries.
    """
    for number in range(tries):
        begun = time.monotonic()
        if _ask(port):
            return True
        if number < tries - 1:
            time.sleep(max(0.0, begun + pause - time.monotonic()))
    return False


def _ask(port: int) -> bool:
    request = f"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode()
    start = b""
    try:
        with socket.create_connection(("127.0.0.1", port), TRY_SECONDS) as connection:
            connection.sendall(request)
            while len(start) < len(_OK[0]) and (received := connection.recv(256)):
                start += received
    except OSError:
        return False
    return start.startswith(_OK)
