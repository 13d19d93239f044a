"""Requests for the real metadata service, with a stand-in for it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

import httpx2
import pytest

from azwi.local.processes import free_port
from azwi.proxy.imds import Answer, Forward, Request, StreamedAnswer
from azwi.proxy.passthrough import LOOP_HEADER, MAX_ANSWER_BYTES, UnusableError, Upstream
from azwi.proxy.server import HttpServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

FORWARD = Forward("/metadata/instance?api-version=2021-02-01")
GET = Request("GET", FORWARD.target, [("host", "169.254.169.254"), ("metadata", "true")])


@contextlib.asynccontextmanager
async def service(reply: bytes, *, seconds: float = 5.0) -> AsyncIterator[tuple[Upstream, list[bytes]]]:
    """A metadata service that gives one reply, and what it was sent."""
    received: list[bytes] = []
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read(65536))
        with contextlib.suppress(ConnectionError):
            writer.write(reply)
            await writer.drain()
            if seconds < 1:
                await ended.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield Upstream("127.0.0.1", server.sockets[0].getsockname()[1], seconds), received
    finally:
        ended.set()
        server.close()
        await server.wait_closed()


async def whole(answer: Answer | StreamedAnswer) -> Answer:
    """The answer with all of its body, which comes in parts."""
    if isinstance(answer, Answer):
        return answer
    parts = [part async for part in answer.parts]
    assert all(len(part) <= 65536 for part in parts)
    return Answer(answer.status, answer.headers, b"".join(parts))


def ask(reply: bytes, request: Request = GET, body: bytes = b"") -> tuple[Answer, bytes]:
    """The answer to the application, and the request to the service."""

    async def run() -> tuple[Answer, bytes]:
        async with service(reply) as (upstream, received):
            return await whole(await upstream.forward(FORWARD, request, body)), b"".join(received)

    return asyncio.run(run())


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nServer: IMDS/1\r\nContent-Length: 2\r\nConnection: X-Hop, close\r\nX-Hop: 1\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nServer: IMDS/1\r\nTransfer-Encoding: chunked\r\nKeep-Alive: 5\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nServer: IMDS/1\r\n\r\n{}",
    ],
)
def test_an_answer_is_passed_on(reply: bytes) -> None:
    """Status, headers and body come through however they were framed, headers of one hop do not."""
    assert Answer(200, (("Server", "IMDS/1"),), b"{}") == ask(reply)[0]


def test_the_request_is_passed_on() -> None:
    """Method, target, body and headers come through, with the service's own Host, without those of one hop."""
    headers = [
        ("host", "localhost:8000"),
        ("metadata", "true"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("transfer-encoding", "chunked"),
        ("user-agent", "curl/8"),
    ]
    _, sent = ask(b"HTTP/1.1 204 No\r\n\r\n", Request("POST", FORWARD.target, headers), b"abc")
    head, _, body = sent.partition(b"\r\n\r\n")
    assert [
        b"POST /metadata/instance?api-version=2021-02-01 HTTP/1.1",
        b"Host: 169.254.169.254",
        b"metadata: true",
        b"user-agent: curl/8",
        b"azwi-proxy-passthrough: 1",
        b"Connection: close",
        b"Content-Length: 3",
    ] == head.split(b"\r\n")
    assert body == b"abc"


def test_a_head_request_has_the_length_and_no_body() -> None:
    """The answer to HEAD says how long the body would be."""
    answer, sent = ask(b"HTTP/1.1 200 OK\r\nContent-Length: 53\r\n\r\n", Request("HEAD", FORWARD.target, GET.headers))
    assert sent.startswith(b"HEAD ")
    assert Answer(200, (("Content-Length", "53"),), b"") == answer


@pytest.mark.parametrize("status", [302, 400, 503])
def test_statuses_are_passed_on_and_redirects_not_followed(status: int) -> None:
    """Whatever the service says is the answer."""
    reply = b"HTTP/1.1 %d X\r\nLocation: http://evil.example/\r\nContent-Length: 0\r\n\r\n" % status
    answer, _ = ask(reply)
    assert (status, (("Location", "http://evil.example/"),)) == (answer.status, answer.headers)


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"no http",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 20000000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_an_answer_that_cannot_be_used(reply: bytes) -> None:
    """What has no usable head, or announces too much, becomes an error as JSON."""
    answer, _ = ask(reply)
    assert answer.status == 502
    assert b'"error"' in answer.body


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (MAX_ANSWER_BYTES + 1),
    ],
)
def test_a_body_that_ends_early_or_never(reply: bytes) -> None:
    """Its parts raise, so that nobody takes it for whole."""
    with pytest.raises(UnusableError):
        ask(reply)


def test_an_early_answer_is_not_the_answer() -> None:
    """100 and 103 announce another, which is passed on."""
    reply = b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 2\r\n\r\n{}"
    assert Answer(200, (("X", "y"),), b"{}") == ask(reply)[0]


def test_nobody_listens() -> None:
    """Off Azure there is an error at once that says why."""
    answer = asyncio.run(Upstream("127.0.0.1", free_port()).forward(FORWARD, GET, b""))
    assert isinstance(answer, Answer)
    assert answer.status == 502
    assert b"Azure's virtual machines only" in answer.body


def test_a_request_that_came_back_is_stopped() -> None:
    """Without the redirect's exemption a request would go round for ever."""
    request = Request("GET", FORWARD.target, [*GET.headers, (LOOP_HEADER, "1")])
    answer, sent = ask(b"", request)
    assert (508, b"") == (answer.status, sent)


def test_a_service_that_hangs() -> None:
    """The wait is bounded."""

    async def run() -> Answer:
        async with service(b"HTTP/1.1 200 OK\r\n", seconds=0.05) as (upstream, _):
            return await whole(await upstream.forward(FORWARD, GET, b""))

    assert asyncio.run(run()).status == 504


# --- Through the server, to a client -------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def passing_on(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], seconds: float = 5.0
) -> AsyncIterator[int]:
    """A server that passes everything on to a service; its port."""
    service = await asyncio.start_server(serve, "127.0.0.1", 0)
    upstream = Upstream("127.0.0.1", service.sockets[0].getsockname()[1], seconds)
    server = HttpServer(lambda request, body: upstream.forward(FORWARD, request, body), "test")
    try:
        yield await server.listen("127.0.0.1", 0)
    finally:
        await server.stop(1)
        service.close()
        await service.wait_closed()


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_body_streams(version: str) -> None:
    """The client has the first part before the service has sent the second, in a framing that it knows."""

    async def run() -> None:
        more = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nServer: IMDS\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
            await more.wait()
            writer.write(b"6\r\nsecond\r\n0\r\n\r\n")
            writer.close()

        async with passing_on(serve) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET / HTTP/{version}\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            begun = await asyncio.wait_for(reader.readuntil(b"first"), 2)
            more.set()
            rest = await reader.read()
            writer.close()
        assert 1 == begun.count(b"Server: ")
        if version == "1.1":
            assert b"Transfer-Encoding: chunked\r\n" in begun
            assert b"\r\n6\r\nsecond\r\n0\r\n\r\n" == rest
        else:
            assert b"second" == rest

    asyncio.run(run())


def test_a_real_client_reads_a_stream_and_goes_on() -> None:
    """httpx2 reads chunked and measured bodies, one after the other on one connection."""

    async def run() -> None:
        replies = [
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000,
            b"HTTP/1.1 204 No\r\n\r\n",
        ]

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(replies.pop(0))
            writer.close()

        async with passing_on(serve) as port, httpx2.AsyncClient(trust_env=False) as client:
            bodies = [(await client.get(f"http://127.0.0.1:{port}/")).content for _ in range(3)]
        assert [b"abc", b"x" * 100_000, b""] == bodies

    asyncio.run(run())


@pytest.mark.parametrize("tail", [b"5\r\n{}", b""])
def test_a_stream_that_breaks_is_seen_as_broken(tail: bytes) -> None:
    """The client must not take half of an answer for whole, nor a service that falls silent for the end."""

    async def run() -> None:
        hold = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n" + tail)
            if not tail:
                await hold.wait()
            writer.close()

        async with passing_on(serve, seconds=0.3) as port, httpx2.AsyncClient(trust_env=False) as client:
            with pytest.raises(httpx2.TransportError):
                await client.get(f"http://127.0.0.1:{port}/")
            hold.set()

    asyncio.run(run())


def test_a_client_that_does_not_read_fills_no_memory() -> None:
    """What the service sends stays in the kernel's buffers; in time the client is dropped."""

    async def run() -> None:
        sent = [0]
        dropped = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                for _ in range(200):
                    writer.write(b"x" * 65536)
                    await writer.drain()
                    sent[0] += 65536
            writer.close()
            dropped.set()

        async with passing_on(serve, seconds=0.5) as port:
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                await asyncio.wait_for(dropped.wait(), 5)
        assert sent[0] < 200 * 65536

    asyncio.run(run())
