"""Asks a running proxy whether it is ready: the startup probe, and the postStart hook of a plain sidecar.

A kubelet runs this each second beside each Pod's proxy, so it loads next to nothing: a bare socket, not even `typing`.

Source: R 5 (probe), D 30.
"""

from __future__ import annotations

import socket
import time

TYPE_CHECKING = False  # as type checkers know it
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

TRIES: Final = 7  # for a proxy that answers and is not ready, as the reference
PAUSE_SECONDS: Final = 1.0
TRY_SECONDS: Final = 5.0
START_SECONDS: Final = 20.0  # for a proxy that does not listen yet
_LOOK_SECONDS: Final = 0.1
_PORT_FLAG: Final = "--proxy-port"
_LEVEL_FLAG: Final = "--log-level"
_MAX_PORT: Final = 65535
_LEVELS: Final = ("", "info", "debug", "trace", "all")
_OK: Final = (b"HTTP/1.1 200 ", b"HTTP/1.0 200 ")


def find_probed_port(argv: Sequence[str]) -> int | None:
    """The port, where the arguments are those of the probe that the webhook renders; None: the parser is needed."""
    port = ""
    for argument in argv:
        name, equals, value = argument.partition("=")
        if argument == "--probe":
            continue
        if name == _PORT_FLAG and value.isascii() and value.isdigit():
            port = value
        elif name != _LEVEL_FLAG or not equals or value not in _LEVELS:
            return None
    if "--probe" not in argv or not 0 < int(port[:6] or 0) <= _MAX_PORT:
        return None
    return int(port)


def probe(port: int, tries: int = TRIES, pause: float = PAUSE_SECONDS, start: float = START_SECONDS) -> bool:
    """Whether the proxy on 127.0.0.1 says that it is ready.

    Args:
        port: Where it listens.
        tries: How often it may say that it is not.
        pause: Seconds between the beginnings of two tries.
        start: Seconds in which it has to listen; a refused connection is no try.
    """
    deadline = time.monotonic() + start
    while tries:
        begun = time.monotonic()
        ready = _ask(port)
        if ready:
            return True
        if ready is None:
            if begun >= deadline:
                return False
            time.sleep(_LOOK_SECONDS)
            continue
        tries -= 1
        if tries:
            time.sleep(max(0.0, begun + pause - time.monotonic()))
    return False


def _ask(port: int) -> bool | None:
    """Whether it is ready; None where nobody listens."""
    request = f"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode()
    start = b""
    try:
        with socket.create_connection(("127.0.0.1", port), TRY_SECONDS) as connection:
            connection.sendall(request)
            while len(start) < len(_OK[0]) and (received := connection.recv(256)):
                start += received
    except ConnectionRefusedError:
        return None
    except OSError:
        return False
    return start.startswith(_OK)
