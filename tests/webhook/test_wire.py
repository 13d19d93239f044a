"""Peers that do not send what they began: their connections end, those of others do not."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any

import uvicorn

from azwi.webhook.server import respond
from azwi.webhook.wire import REQUEST_SECONDS, WholeAnswersProtocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

WHOLE = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"


class Hasty(WholeAnswersProtocol):
    """One that gives up soon."""

    request_seconds = 0.3


async def app(_: Any, receive: Any, send: Any) -> None:  # noqa: ANN401  # ASGI
    """An answer to any request, when all of it is there; it may take longer than a request."""
    while (await receive()).get("more_body"):
        pass
    await asyncio.sleep(0.5)
    await respond(send, 200, b"ok")


def serve(use: Callable[[int], Awaitable[None]]) -> None:
    """A server while somebody uses its port."""

    async def run() -> None:
        config = uvicorn.Config(app, http=Hasty, ws="none", lifespan="off", log_config=None)
        server = uvicorn.Server(config)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            task = asyncio.create_task(server.serve([listening]))
            try:
                await use(listening.getsockname()[1])
            finally:
                server.should_exit = True
                await task

    asyncio.run(run())


def test_half_a_request_ends_in_time() -> None:
    """Nothing at all, half a head, half a body, and half of a second request."""

    async def begin(port: int, part: bytes, answers: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(part)
        async with asyncio.timeout(5):
            try:
                assert answers == (await reader.read()).count(b"HTTP/1.1 200")
            except ConnectionResetError:
                assert not answers
        writer.close()

    async def use(port: int) -> None:
        parts = ((b"", 0), (WHOLE[:20], 0), (WHOLE[:-1], 0))
        await asyncio.gather(*(begin(port, part, answers) for part, answers in parts))

    serve(use)
    assert REQUEST_SECONDS > 30


def test_whole_requests_have_all_the_time() -> None:
    """An answer that takes longer, and a pause between two requests on one connection."""

    async def use(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(10):
            for _ in range(2):
                writer.write(WHOLE)
                assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
                await asyncio.sleep(0.5)
            writer.write(WHOLE[:30])
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.close()

    serve(use)
