"""A server that reads a review and answers without looking at it, on the same libraries: what is left is ours.

Machines are shared, and the same program costs half as much again in a busy hour; this one then does, too.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from azwi.webhook.certificates.files import CertificateFiles

_ANSWER = b'{"patch":" '


async def _app(_: Any, receive: Any, send: Any) -> None:  # noqa: ANN401  # ASGI
    while (await receive()).get("more_body"):
        pass
    length = (b"content-length", b"%d" % len(_ANSWER))
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": _ANSWER})


def main() -> None:
    """Serve with the certificate of a folder on a port of loopback."""
    context = CertificateFiles(Path(sys.argv[1]), "1.3").context
    listener = socket.create_server(("127.0.0.1", int(sys.argv[2])))
    config = uvicorn.Config(
        _app,
        loop="none",
        http="httptools",
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        ssl_context_factory=lambda *_: context,
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(uvicorn.Server(config).serve(sockets=[listener]))


if __name__ == "__main__":
    main()
