"""One request to Graph or Resource Manager: retries, paging, what it never does. The transport is the only stand-in."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from azwi.entra.arm import ResourceManager
from azwi.entra.federation import FederatedCredential
from azwi.entra.graph import Graph
from azwi.entra.hosts import hosts_of, open_http
from azwi.entra.refusals import ServiceError
from azwi.entra.rest import Patience, RestClient
from azwi.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

TENANT = "11111111-1111-1111-1111-111111111111"
SUBSCRIPTION = "44444444-4444-4444-4444-444444444444"
SECRET = "hunter2-hunter2"  # noqa: S105  # a mark
BASE = "https://graph.example"


class Everybody:
    """Somebody who is signed in."""

    async def token(self, scope: str) -> str:
        """A token that names its scope."""
        return scope


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        """Be later."""
        self.now += seconds
        self.slept.append(seconds)

    def patience(self) -> Patience:
        """Without spread, so that delays are known."""
        return Patience(lambda: self.now, self.sleep, lambda: 1.0)


def run(
    answers: Callable[[httpx2.Request], httpx2.Response], work: Callable[[RestClient], Awaitable[Any]], time: Time
) -> Any:  # noqa: ANN401
    """Do something with a client whose server answers so."""

    async def main() -> Any:  # noqa: ANN401
        transport = httpx2.MockTransport(answers)
        async with open_http(ssl.create_default_context(), hosts_of(BASE), transport) as http:
            return await work(RestClient("Graph", BASE, http, Everybody(), time.patience()))

    return asyncio.run(main())


def script(*answers: httpx2.Response) -> tuple[Callable[[httpx2.Request], httpx2.Response], list[httpx2.Request]]:
    """A server that gives these answers, and what it was asked."""
    left, asked = list(answers), []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        return left.pop(0)

    return answer, asked


def fault(status: int, code: str = "", **headers: str) -> httpx2.Response:
    """A refusal."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx2.Response(status, json={"error": {"code": code, "message": "no"}}, headers=named)


def test_throttling_waits_as_long_as_it_is_told() -> None:
    """Retry-After, then success; the whole request is sent again."""
    answers, asked = script(fault(429, Retry_After="7"), fault(503), httpx2.Response(200, json={"ok": 1}))
    time = Time()
    reply = run(answers, lambda rest: rest.request("POST", "/v1.0/x", body={"a": "b"}), time)
    assert ([7.0, 1.0], {"ok": 1}) == (time.slept, reply.document)
    assert {b'{"a":"b"}'} == {request.content for request in asked}
    assert {f"Bearer {BASE}/.default"} == {request.headers["authorization"] for request in asked}


@pytest.mark.parametrize(
    ("until", "date", "slept"),
    [
        ("Wed, 21 Oct 2026 07:28:30 GMT", "Wed, 21 Oct 2026 07:28:00 GMT", 30.0),
        ("Wed, 21 Oct 2026 07:27:00 GMT", "Wed, 21 Oct 2026 07:28:00 GMT", 0.5),
        ("Wed, 21 Oct 2015 07:28:00 GMT", "", 0.5),
        ("soon", "", 0.5),
    ],
)
def test_a_date_in_retry_after_counts(until: str, date: str, slept: float) -> None:
    """From the answer's own date, since clocks differ; what is past or no date is no reason to wait."""
    dated = {"date": date} if date else {}
    answers, _ = script(fault(503, Retry_After=until, **dated), httpx2.Response(200, json={}))
    time = Time()
    run(answers, lambda rest: rest.request("GET", "/v1.0/x"), time)
    assert [slept] == time.slept


@pytest.mark.parametrize("find", [Graph.find_applications, Graph.find_principals_by_name])
def test_a_name_is_compared_exactly(find: Callable[[Graph, str], Awaitable[list[Any]]]) -> None:
    """Graph's filter knows no case: another's application is not taken for it."""
    named = [{"id": name, "appId": name, "displayName": name} for name in ("Orders", "orders")]
    answers, _ = script(httpx2.Response(200, json={"value": named}))
    found = run(answers, lambda rest: find(Graph(rest), "orders"), Time())
    assert ["orders"] == [one.object_id for one in found]


def test_what_might_be_done_already_is_not_sent_twice() -> None:
    """A POST whose answer was lost; the application that it made is found instead."""
    made = {"id": "o", "appId": "c", "displayName": "orders"}
    answers, asked = script(fault(502), httpx2.Response(200, json={"value": [made]}))
    record = run(answers, lambda rest: Graph(rest).create_application("orders"), Time())
    assert ("o", ["POST", "GET"]) == (record.object_id, [request.method for request in asked])
    answers, _ = script(fault(502), httpx2.Response(200, json={"value": []}))
    with pytest.raises(ServiceError, match="502"):
        run(answers, lambda rest: Graph(rest).create_application("orders"), Time())
    answers, asked = script(fault(403))
    with pytest.raises(ServiceError, match="403"):
        run(answers, lambda rest: Graph(rest).create_application("orders"), Time())
    assert 1 == len(asked)


def test_patience_ends() -> None:
    """After two minutes of 503 the last refusal is told."""
    time = Time()
    with pytest.raises(ServiceError, match="503"):
        run(lambda _: fault(503), lambda rest: rest.request("GET", "/v1.0/x"), time)
    assert 100 < time.now <= 120


def test_a_server_that_is_not_there() -> None:
    """Tried again, then told with the reason."""

    def refuse(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("connection refused", request=request)

    with pytest.raises(ServiceError, match=r"could not be asked .*connection refused"):
        run(refuse, lambda rest: rest.request("GET", "/v1.0/x"), Time())


def test_pages_are_followed_to_the_end() -> None:
    """Both names of the link; items stay in order."""
    answers, asked = script(
        httpx2.Response(200, json={"value": [{"n": 1}], "@odata.nextLink": f"{BASE}/v1.0/x?$skiptoken=a&$filter=b"}),
        httpx2.Response(200, json={"value": [{"n": 2}], "nextLink": f"{BASE}/v1.0/x?$skiptoken=c"}),
        httpx2.Response(200, json={"value": [{"n": 3}]}),
    )

    async def read(rest: RestClient) -> list[int]:
        return [one async for one in rest.items("/v1.0/x", lambda item: int(item["n"]), query={"$filter": "b"})]

    assert [1, 2, 3] == run(answers, read, Time())
    assert ["a", "c"] == [request.url.params["$skiptoken"] for request in asked[1:]]


@pytest.mark.parametrize("origin", ["https://graph.example:443", "https://Graph.Example", "HTTPS://graph.example"])
def test_a_next_page_of_the_same_origin_is_followed(origin: str) -> None:
    """However it is written."""
    answers, asked = script(
        httpx2.Response(200, json={"value": [{"n": 1}], "nextLink": f"{origin}/v1.0/x?$skiptoken=a"}),
        httpx2.Response(200, json={"value": [{"n": 2}]}),
    )

    async def read(rest: RestClient) -> list[object]:
        return [one async for one in rest.items("/v1.0/x", dict)]

    assert [{"n": 1}, {"n": 2}] == run(answers, read, Time())
    assert "graph.example" == asked[1].url.host


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/v1.0/x",
        "http://graph.example/v1.0/x",
        f"{BASE}.evil.example/x",
        f"{BASE}:444/x",
        "https://graph.example@evil.example/x",
        "https://me@graph.example/x",
        "https://graph.example:x/y",
        "v1.0/x",
    ],
)
def test_a_next_page_elsewhere_is_not_followed(link: str) -> None:
    """The token would go there."""
    answers, asked = script(httpx2.Response(200, json={"value": [], "nextLink": link}))

    async def read(rest: RestClient) -> list[object]:
        return [one async for one in rest.items("/v1.0/x", dict)]

    with pytest.raises(ServiceError, match="points to"):
        run(answers, read, Time())
    assert 1 == len(asked)


def test_pages_without_end_are_given_up() -> None:
    """A thousand are enough."""
    following = httpx2.Response(200, json={"value": [], "nextLink": f"{BASE}/v1.0/x"})

    async def read(rest: RestClient) -> list[object]:
        return [one async for one in rest.items("/v1.0/x", dict)]

    with pytest.raises(ServiceError, match="more than 1000 pages"):
        run(lambda _: following, read, Time())


def test_a_redirect_is_a_refusal() -> None:
    """It is not followed."""
    answers, asked = script(httpx2.Response(302, headers={"Location": "https://evil.example/"}))
    with pytest.raises(ServiceError, match="302"):
        run(answers, lambda rest: rest.request("GET", "/v1.0/x"), Time())
    assert 1 == len(asked)


@pytest.mark.parametrize("content", [b"<html>", b"[]", b"null", b""])
def test_a_success_that_is_no_object_is_a_refusal(content: bytes) -> None:
    """As of a proxy that wants a sign-in: told in a sentence, not sent again."""
    answers, asked = script(httpx2.Response(200, content=content))
    with pytest.raises(
        ServiceError, match=r"Graph answered GET /v1.0/applications with 200, but that is no JSON object"
    ):
        run(answers, lambda rest: Graph(rest).find_applications("orders"), Time())
    assert 1 == len(asked)


def test_filters_are_escaped() -> None:
    """A quote in a name is doubled, and the whole is percent-encoded (defect 22 of the reference)."""
    answers, asked = script(httpx2.Response(200, json={"value": []}))
    run(answers, lambda rest: Graph(rest).find_applications("it's & more"), Time())
    assert "displayName eq 'it''s & more'" == asked[0].url.params["$filter"]
    assert b"%26" in asked[0].url.raw_path


@pytest.mark.parametrize(("status", "made"), [(201, "/a"), (200, "")])
def test_a_role_that_was_there_is_not_new(status: int, made: str) -> None:
    """The service says so by 200 in place of 201."""
    answers, _ = script(httpx2.Response(status, json={"id": "/a"}))
    assert made == run(answers, lambda rest: ResourceManager(rest).assign_role("/s", "/r/d", "p"), Time())


def test_an_id_is_one_segment_of_a_path() -> None:
    """Whatever it holds, no other object is asked for."""
    answers, asked = script(*[httpx2.Response(204)] * 3)

    async def work(rest: RestClient) -> None:
        graph, credential = Graph(rest), FederatedCredential("n", "i", "s", ("a",), identifier="../c?d")
        await graph.delete_application("a/b?c#d")
        await graph.change_credential("a/b", credential)
        await graph.remove_credential("a/b", credential)

    run(answers, work, Time())
    assert [
        b"/v1.0/applications/a%2Fb%3Fc%23d",
        b"/v1.0/applications/a%2Fb/federatedIdentityCredentials/..%2Fc%3Fd",
        b"/v1.0/applications/a%2Fb/federatedIdentityCredentials/..%2Fc%3Fd",
    ] == [request.url.raw_path for request in asked]


def test_a_service_without_an_address_is_told() -> None:
    """As in a private cloud whose Graph nobody named."""

    async def main() -> None:
        async with open_http(ssl.create_default_context(), frozenset()) as http:
            await RestClient("Microsoft Graph", "", http, Everybody()).request("GET", "/x")

    with pytest.raises(ConfigurationError, match="address of Microsoft Graph is not known"):
        asyncio.run(main())


# --- Clouds ---------------------------------------------------------------------------------------------
