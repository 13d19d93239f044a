"""One connection and what it is asked: pieces, bodies, trailers, upgrades, time-outs, bounds, the end."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from azwi.proxy.connection import MAX_PIPELINED
from azwi.proxy.imds import Answer, Request
from azwi.proxy.server import HttpServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


@contextlib.asynccontextmanager
async def serving(
    handler: Callable[[Request, bytes], Answer | Awaitable[Answer]], **bounds: float
) -> AsyncIterator[tuple[HttpServer, int]]:
    """A server and its port."""
    server = HttpServer(handler, "test", **bounds)  # type: ignore[arg-type]
    port = await server.listen("127.0.0.1", 0)
    try:
        yield server, port
    finally:
        await server.stop(1)


async def talk(port: int, *parts: bytes, pause: float = 0.0) -> bytes:
    """What comes back for parts sent one by one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(ConnectionError):
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause)
    received = await reader.read()
    writer.close()
    return received


def echo(request: Request, body: bytes) -> Answer:
    """Answers with what it was asked."""
    return Answer(200, (), f"{request.method} {request.target} ".encode() + body)


def test_a_request_may_arrive_in_pieces() -> None:
    """Bytes come as the network brings them."""

    async def run() -> None:
        async with serving(echo) as (_, port):
            raw = b"POST /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"
            received = await talk(port, *(raw[i : i + 1] for i in range(len(raw))))
            assert received.endswith(b"\r\n\r\nPOST /a?b abc")

    asyncio.run(run())


def test_a_chunked_body_is_read() -> None:
    """The other framing of a body is understood."""

    async def run() -> None:
        async with serving(echo) as (_, port):
            raw = b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            raw += b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
            assert (await talk(port, raw)).endswith(b"POST /a abc")

    asyncio.run(run())


@pytest.mark.parametrize(
    "start", [b"GET /", b"GET / HTTP/1.1\r\nX: y\r\n", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\na"]
)
def test_a_slow_request_is_ended(start: bytes) -> None:
    """A request has so many seconds to arrive as a whole, however steadily it drips."""

    async def run() -> None:
        async with serving(echo, request_seconds=0.3) as (_, port):
            # The drops end long before: one that arrived after the answer would reset the connection.
            received = await talk(port, start, b"a", b"a", pause=0.01)
            assert received.startswith(b"HTTP/1.1 408 ")

    asyncio.run(run())


def test_a_silent_connection_is_ended() -> None:
    """A connection without a request is closed without a word."""

    async def run() -> None:
        async with serving(echo, request_seconds=0.05) as (_, port):
            assert await talk(port) == b""

    asyncio.run(run())


def test_connections_are_bounded() -> None:
    """One too many is told to come back, and those that are open go on."""

    async def run() -> None:
        async with serving(echo, max_connections=1) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.sleep(0.02)
            refused = await talk(port)
            assert refused.startswith(b"HTTP/1.1 503 ")
            assert b"Retry-After: 1\r\n" in refused
            writer.write(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
            writer.close()

    asyncio.run(run())


def test_pipelining_is_bounded() -> None:
    """Those that wait are answered in order, then the connection ends with a 400."""

    async def run() -> None:
        gate = asyncio.Event()

        async def wait(request: Request) -> Answer:
            await gate.wait()
            return Answer(200, (), request.target.encode())

        async with serving(lambda request, _body: wait(request)) as (_, port):
            asyncio.get_running_loop().call_later(0.05, gate.set)
            raw = b"".join(b"GET /%d HTTP/1.1\r\n\r\n" % number for number in range(MAX_PIPELINED + 10))
            received = await talk(port, raw)
            statuses = [line for line in received.split(b"\r\n") if line.startswith(b"HTTP/1.1") or b"HTTP/1.1" in line]
            assert len(statuses) == MAX_PIPELINED + 2
            assert b"400" in statuses[-1]
            assert received.index(b"/1") < received.index(b"/16")

    asyncio.run(run())


def test_a_defect_is_a_500() -> None:
    """What a handler raises is logged, and the connection goes on."""

    async def run() -> None:
        async def fail(_request: Request, _body: bytes) -> Answer:
            raise RuntimeError("defect")

        async with serving(fail) as (_, port):
            received = await talk(port, b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
            assert received.startswith(b"HTTP/1.1 500 ")
            assert b"defect" not in received

    asyncio.run(run())


def test_stopping_finishes_what_was_begun() -> None:
    """A busy connection is answered and closed, an idle one closed, one that takes too long dropped."""

    async def run() -> None:
        begun: set[str] = set()

        async def wait(request: Request, _body: bytes) -> Answer:
            begun.add(request.target)
            await asyncio.sleep(0.1 if request.target == "/short" else 60)
            return Answer(200, (), b"done")

        server = HttpServer(wait, "test")
        port = await server.listen("127.0.0.1", 0)
        short, long, idle = (
            asyncio.create_task(talk(port, part))
            for part in (b"GET /short HTTP/1.1\r\n\r\n", b"GET /long HTTP/1.1\r\n\r\n", b"")
        )
        while begun != {"/short", "/long"}:  # noqa: ASYNC110  # two of them
            await asyncio.sleep(0.01)
        await server.stop(1.0)
        assert b"Connection: close" in await short
        with contextlib.suppress(ConnectionError):
            assert await idle == b""
        with contextlib.suppress(ConnectionError):
            assert await long == b""

    asyncio.run(run())


TRAILERS = b"GET /t HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n"


def test_trailers_are_no_headers() -> None:
    """What comes after a body was not checked as a head was."""
    seen: list[Request] = []

    def handle(request: Request, _: bytes) -> Answer:
        seen.append(request)
        return Answer(200, (), b"")

    async def run() -> None:
        async with serving(handle) as (_, port):
            received = await talk(port, TRAILERS + b"Metadata: true\r\nX-Smuggled: 1\r\n\r\n")
            assert received.startswith(b"HTTP/1.1 200")

    asyncio.run(run())
    assert ["host", "transfer-encoding", "connection"] == [name for name, _ in seen[0].headers]


@pytest.mark.parametrize("endless", [b"X: " + b"x" * 10_000_000, b"X: y\r\n" * 1_000_000])
def test_trailers_are_bounded(endless: bytes) -> None:
    """They end with an answer, long before all of them are here."""

    async def run() -> None:
        async with serving(echo) as (_, port):
            received = await talk(port, TRAILERS, *(endless[at : at + 65_536] for at in range(0, len(endless), 65_536)))
            assert received == b"" or received.startswith(b"HTTP/1.1 4")

    with contextlib.suppress(ConnectionError):
        asyncio.run(run())


@pytest.mark.parametrize(
    ("fields", "parts", "status", "body"),
    [
        (b"Content-Length: 4", (b"abcd",), 200, b"abcd"),
        (b"Content-Length: 4", (b"ab", b"cd", b"GET /x HTTP/1.1\r\n\r\n"), 200, b"abcd"),
        (b"Content-Length: 70000", (b"",), 413, b"the body is too large"),
        (b"Transfer-Encoding: chunked", (b"4\r\nabcd\r\n0\r\n\r\n",), 400, b"one piece here"),
        (b"X: y", (b"",), 200, b""),
    ],
)
def test_a_wish_for_http_2_loses_no_body(fields: bytes, parts: tuple[bytes, ...], status: int, body: bytes) -> None:
    """Java's client has it in each first request, with a body or without; it gets one answer, and the end."""
    head = (
        b"POST /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n" + fields + b"\r\n\r\n"
    )

    async def run() -> bytes:
        async with serving(echo) as (_, port):
            return await talk(port, head, *parts, pause=0.02)

    received = asyncio.run(run())
    assert received.startswith(f"HTTP/1.1 {status}".encode())
    assert received.endswith((b"POST /a " if status == 200 else b"") + body)
    assert 1 == received.count(b"HTTP/1.1 ")


def test_a_handler_that_fails_at_once_is_answered_too(caplog: pytest.LogCaptureFixture) -> None:
    """Also behind a request that takes its time; the connection goes on."""

    def handle(request: Request, _: bytes) -> Answer | Awaitable[Answer]:
        async def later() -> Answer:
            await asyncio.sleep(0.1)
            return Answer(200, (), b"late")

        if request.target == "/late":
            return later()
        raise ZeroDivisionError

    async def run() -> bytes:
        async with serving(handle) as (_, port):
            ask = b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n"
            last = b"GET /now HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            return await talk(port, ask % b"now" + ask % b"late" + last)

    answers = asyncio.run(run()).split(b"HTTP/1.1 ")[1:]
    assert [b"500", b"200", b"500"] == [answer[:3] for answer in answers]
    assert 2 == caplog.text.count("a request could not be answered")


def test_a_client_that_does_not_read_is_dropped() -> None:
    """With answers that nobody takes, its connection counts no more after the time for a request."""

    async def run() -> None:
        big = Answer(200, (), b"x" * 4_000_000)
        async with serving(lambda *_: big, request_seconds=0.3, max_connections=1) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            await asyncio.sleep(1.2)
            assert (await talk(port, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))[:12] == b"HTTP/1.1 200"
            writer.close()

    asyncio.run(run())
