"""The HTTP edge of the running program: framing, bounds, time-outs, order, and what an attacker may try."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

import pytest
from tests.proxy.entra_standin import Reply
from tests.proxy.proxy_process import TOKEN_TARGET, read_responses

from azwi.proxy.connection import MAX_PIPELINED
from azwi.proxy.imds import Answer, Request
from azwi.proxy.server import HttpServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.proxy.entra_standin import StandIn
    from tests.proxy.proxy_process import ProxyProcess

HEAD = "Host: 127.0.0.1\r\nMetadata: true\r\n"
TOKEN = f"GET {TOKEN_TARGET}&resource=https://vault.azure.net HTTP/1.1\r\n{HEAD}"


def test_a_token_over_http(proxy: ProxyProcess, standin: StandIn) -> None:
    """The answer is JSON with our name, and the token is one that Entra signed for that resource."""
    response = proxy.ask_token("resource=https://vault.azure.net&client_id=c-http")
    assert response.status == 200
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert response.headers["server"].startswith("azure-workload-identity/proxy/")
    claims = standin.verify(response.document["access_token"], "https://vault.azure.net")
    assert claims["appid"] == response.document["client_id"] == "c-http"
    assert str(claims["nbf"]) == response.document["not_before"]


def test_the_second_answer_comes_from_memory(proxy: ProxyProcess) -> None:
    """Entra is asked once; the counters say so."""
    hits = proxy.count("azwi_proxy_cache_hits_total")
    exchanges = proxy.count('azwi_proxy_exchanges_total{result="token",code=""}')
    tokens = [proxy.ask_token("resource=https://memory").document["access_token"] for _ in range(3)]
    assert len(set(tokens)) == 1
    assert hits + 2 == proxy.count("azwi_proxy_cache_hits_total")
    assert exchanges + 1 == proxy.count('azwi_proxy_exchanges_total{result="token",code=""}')


def test_readiness_needs_no_entra(proxy: ProxyProcess) -> None:
    """Readiness is answered to any method, with a body save for HEAD."""
    assert (200, b"ok") == (proxy.ask("/readyz").status, proxy.ask("/readyz").body)
    assert (200, b"ok") == (proxy.ask("/readyzfoo", method="POST").status, proxy.ask("/healthz").body)
    head = proxy.ask("/readyz", method="HEAD")
    assert ("2", b"") == (head.headers["content-length"], head.body)


def test_metrics_have_an_address_of_their_own(proxy: ProxyProcess) -> None:
    """What the application asks for is not what the operator asks for."""
    assert proxy.ask("/metrics").status == 403
    assert proxy.ask("/metadata/identity/oauth2/token", port=proxy.metrics_port).status == 404
    assert proxy.ask("/metrics", port=proxy.metrics_port, method="POST").status == 405
    response = proxy.ask("/metrics", port=proxy.metrics_port)
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")


def test_http_1_0(proxy: ProxyProcess) -> None:
    """Without Host and keep-alive: one answer, then the end; with keep-alive the connection stays."""
    raw = f"GET {TOKEN_TARGET}&resource=a HTTP/1.0\r\nMetadata: true\r\n\r\n".encode()
    (response,) = proxy.send(raw)
    assert (200, "close") == (response.status, response.headers["connection"])
    kept = b"GET /readyz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    responses = proxy.send(kept + kept + b"GET /readyz HTTP/1.0\r\n\r\n")
    assert ["keep-alive", "keep-alive", "close"] == [response.headers["connection"] for response in responses]


def test_requests_that_come_at_once_are_answered_in_order(proxy: ProxyProcess, standin: StandIn) -> None:
    """A slow exchange is not overtaken by the quick answers behind it."""
    standin.replies["c-slow"] = [Reply(400, '{"error": "x"}', wait=0.2)]
    slow = f"GET {TOKEN_TARGET}&resource=a&client_id=c-slow HTTP/1.1\r\n{HEAD}\r\n"
    quick = f"GET /readyz HTTP/1.1\r\n{HEAD}\r\n"
    last = f"GET /none HTTP/1.1\r\n{HEAD}Connection: close\r\n\r\n"
    responses = proxy.send((quick + slow + quick + quick + last).encode())
    assert [200, 400, 200, 200, 403] == [response.status for response in responses]


def test_a_client_that_closed_its_half_is_answered(proxy: ProxyProcess, standin: StandIn) -> None:
    """`nc` and its like send, close and wait."""
    standin.replies["c-half"] = [Reply(400, '{"error": "x"}', wait=0.1)]
    with proxy.connect() as connection:
        connection.sendall(f"GET {TOKEN_TARGET}&resource=a&client_id=c-half HTTP/1.1\r\n{HEAD}\r\n".encode())
        connection.shutdown(socket.SHUT_WR)
        (response,) = read_responses(connection)
    assert response.status == 400


@pytest.mark.parametrize(
    "raw",
    [
        # Two framings: the classic of request smuggling.
        "POST /readyz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /readyz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        "POST /readyz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "POST /readyz HTTP/1.1\r\nHost: localhost\r\nContent-Length: +3\r\n\r\nabc",
        "POST /readyz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "GET /readyz HTTP/1.1\r\nHost: localhost\r\nMetadata : true\r\n\r\n",
        "GET /readyz HTTP/1.1\r\nHost: localhost\r\n folded: x\r\n\r\n",
        "GET /read yz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /readyz\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /readyz HTTP/3.0\r\nHost: localhost\r\n\r\n",
        "GET /readyz HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
        "GET /readyz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "GET /readyz HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "hello\r\n\r\n",
    ],
)
def test_what_is_no_plain_http_is_refused(proxy: ProxyProcess, raw: str) -> None:
    """Whatever two servers might read differently is answered with one 400 and the end."""
    responses = proxy.send(raw.encode("latin-1"))
    assert [400] == [response.status for response in responses]


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        ("GET /" + "a" * 20000 + " HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
        ("GET /readyz HTTP/1.1\r\nHost: localhost\r\nX: " + "a" * 20000 + "\r\n\r\n", 431),
        ("GET /readyz HTTP/1.1\r\nHost: localhost\r\n" + "X: a\r\n" * 200 + "\r\n", 431),
        ("POST /readyz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n" + "a" * 100000, 413),
        ("A" * 20000, 400),
    ],
)
def test_what_is_too_large_is_refused(proxy: ProxyProcess, raw: str, status: int) -> None:
    """Target, headers and body have bounds, and memory with them."""
    responses = []
    with contextlib.suppress(ConnectionError):  # the rest of what we send finds nobody
        responses = proxy.send(raw.encode())
    assert responses == [] or [status] == [response.status for response in responses]
    assert proxy.ask("/readyz").status == 200


def test_an_upgrade_is_not_followed(proxy: ProxyProcess) -> None:
    """A request for another protocol is answered as HTTP, and the connection ends."""
    raw = f"GET /readyz HTTP/1.1\r\n{HEAD}Connection: Upgrade\r\nUpgrade: h2c\r\n\r\nnoise"
    assert proxy.send(raw.encode())[0].status == 200


def test_a_target_that_is_a_whole_address(proxy: ProxyProcess) -> None:
    """A client that takes us for an HTTP proxy is answered by the host it means."""
    assert proxy.ask("http://169.254.169.254/readyz").status == 200
    assert proxy.ask("http://evil.example/readyz").status == 400


def test_nothing_secret_is_printed(proxy: ProxyProcess, standin: StandIn) -> None:
    """At debug level, after tokens, refusals and failures, the output holds neither token nor assertion nor query."""
    standin.replies["c-leak"] = [Reply(400, '{"error": "x", "error_description": "eyJhbGciOiJ9.eyJzdWIiOiJ4In0.c2ln"}')]
    token = proxy.ask_token("resource=https://vault.azure.net&client_id=c-print").document["access_token"]
    refused = proxy.ask_token("resource=https://vault.azure.net&client_id=c-leak")
    proxy.ask("/metadata/identity/oauth2/token?password=hunter2")
    assert "[redacted]" in refused.document["error_description"]
    assertion = standin.forms[0]["client_assertion"]
    output = proxy.output + proxy.ask("/metrics", port=proxy.metrics_port).body.decode()
    for secret in (token, token.split(".")[2], assertion, assertion.split(".")[2], "hunter2", "eyJ"):
        assert secret not in output
    assert "c-print" in output


# --- With a server in this process, to set its bounds ---------------------------------------------------------------


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
