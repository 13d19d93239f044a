"""The HTTP edge of the running program: framing, bounds, time-outs, order, and what an attacker may try."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import pytest
from tests.proxy.entra_standin import Reply
from tests.proxy.proxy_process import TOKEN_TARGET, read_responses

if TYPE_CHECKING:
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
