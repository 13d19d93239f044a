"""Requests for the real metadata service, with a stand-in for it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
from tests.proxy.proxy_process import free_port

from azwi.proxy.imds import Answer, Forward, Request
from azwi.proxy.passthrough import LOOP_HEADER, Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

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


def ask(reply: bytes, request: Request = GET, body: bytes = b"") -> tuple[Answer, bytes]:
    """The answer to the application, and the request to the service."""

    async def run() -> tuple[Answer, bytes]:
        async with service(reply) as (upstream, received):
            return await upstream.forward(FORWARD, request, body), b"".join(received)

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
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 2_000_000,
    ],
)
def test_an_answer_that_cannot_be_used(reply: bytes) -> None:
    """A broken, cut or huge answer becomes an error as JSON."""
    answer, _ = ask(reply)
    assert answer.status == 502
    assert b'"error"' in answer.body


def test_nobody_listens() -> None:
    """Off Azure there is an error at once that says why."""
    answer = asyncio.run(Upstream("127.0.0.1", free_port()).forward(FORWARD, GET, b""))
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
            return await upstream.forward(FORWARD, GET, b"")

    assert asyncio.run(run()).status == 504
