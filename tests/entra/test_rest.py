"""One request to Graph or Resource Manager: retries, paging, what it never does. The transport is the only stand-in."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from azwi.entra.arm import ResourceManager, discover_tenant
from azwi.entra.clouds import CHINA, GERMAN, PUBLIC, US_GOVERNMENT, Cloud
from azwi.entra.federation import FederatedCredential
from azwi.entra.graph import Graph
from azwi.entra.refusals import ServiceError
from azwi.entra.rest import Patience, RestClient, hosts_of, open_http
from azwi.entra.signin import Credentials, EntraHttp, exchange, sign_in
from azwi.errors import AzwiError, ConfigurationError, EntraError

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


class World:
    """All of Azure's hosts behind one transport, which remembers who was asked."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.hosts: list[str] = []
        self.scopes: list[str] = []

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        """What a cloud would say to a creation, well enough."""
        self.hosts.append(request.url.host)
        path = request.url.path
        if path.endswith("openid-configuration"):
            base = f"https://{request.url.host}/{TENANT}/oauth2/v2.0"
            return httpx2.Response(
                200,
                json={
                    "authorization_endpoint": f"{base}/authorize",
                    "token_endpoint": f"{base}/token",
                    "issuer": f"https://{request.url.host}/{TENANT}/v2.0",
                },
            )
        if path.endswith("/token"):
            self.scopes += httpx2.QueryParams(request.content.decode()).get_list("scope")
            return httpx2.Response(200, json={"access_token": "t", "expires_in": 3600, "token_type": "Bearer"})
        if path == f"/subscriptions/{SUBSCRIPTION}":
            where = f'Bearer authorization_uri="{self.cloud.authority_host}{TENANT}", error="invalid_token"'
            return httpx2.Response(401, headers={"WWW-Authenticate": where})
        if "roleDefinitions" in path:
            return httpx2.Response(200, json={"value": [{"id": "/r/d"}]})
        if "roleAssignments" in path:
            return httpx2.Response(201, json={"id": "/a"})
        if "federatedIdentityCredentials" in path or request.method == "GET":
            return httpx2.Response(200, json={"value": []})
        identity = {"properties": {"clientId": "c", "principalId": "p"}}
        return httpx2.Response(201, json={"id": "o", "appId": "c", "displayName": "x", "name": "x"} | identity)


@pytest.mark.parametrize("cloud", [PUBLIC, US_GOVERNMENT, CHINA, GERMAN], ids=lambda cloud: cloud.name)
def test_no_request_leaves_for_a_host_of_another_cloud(cloud: Cloud) -> None:
    """Sign-in, tenant, Graph, Resource Manager and the exchange all stay in the cloud (defect 21 of the reference)."""
    world = World(cloud)
    hosts = hosts_of(cloud.authority_host, cloud.graph, cloud.resource_manager)
    context = ssl.create_default_context()

    async def main() -> None:
        entra = EntraHttp(context, hosts_of(cloud.authority_host), httpx2.MockTransport(world.answer))
        async with open_http(context, hosts, httpx2.MockTransport(world.answer)) as http:
            tenant = await discover_tenant(http, cloud.resource_manager, SUBSCRIPTION)
            credentials = Credentials("client_secret", "55555555-5555-5555-5555-555555555555", SECRET)
            who = sign_in(credentials, cloud.authority_host, tenant, entra)
            graph = Graph(RestClient("Graph", cloud.graph, http, who))
            manager = ResourceManager(RestClient("ARM", cloud.resource_manager, http, who))
            application = await graph.create_application("orders")
            await graph.create_principal(application.client_id, "tag")
            credential = FederatedCredential("n", "https://i", "s", ("a",))
            await graph.add_credential(application.object_id, credential)
            await manager.create_identity("/subscriptions/s/x", "here")
            await manager.put_credential("/subscriptions/s/x", credential)
            definition = await manager.find_role("/subscriptions/s", "Reader")
            await manager.assign_role("/subscriptions/s", definition, "p")
            scope = f"{cloud.resource_manager}/.default"
            await asyncio.to_thread(exchange, "assertion", "c", cloud.authority_host + tenant, scope, entra, {})
        entra.close()

    asyncio.run(main())
    assert hosts == set(world.hosts)
    assert {cloud.graph, cloud.resource_manager} == {scope.partition("/.default")[0] for scope in world.scopes}


def test_another_clouds_host_is_refused_before_it_is_asked() -> None:
    """Also when somebody points there: the check is in every client."""
    context = ssl.create_default_context()
    world = World(PUBLIC)
    entra = EntraHttp(context, hosts_of(US_GOVERNMENT.authority_host), httpx2.MockTransport(world.answer))
    with pytest.raises(EntraError, match=r"login\.microsoftonline\.com is no host of this cloud"):
        entra.get("https://login.microsoftonline.com/common/discovery/instance")
    entra.close()

    async def main() -> None:
        async with open_http(context, hosts_of(CHINA.graph), httpx2.MockTransport(world.answer)) as http:
            await http.get("https://graph.microsoft.com/v1.0/applications")

    with pytest.raises(EntraError, match=r"graph\.microsoft\.com is no host"):
        asyncio.run(main())
    assert [] == world.hosts


@pytest.mark.parametrize(
    "answer",
    [
        httpx2.Response(404),
        httpx2.Response(401),
        httpx2.Response(401, headers={"WWW-Authenticate": 'Bearer authorization_uri="https://login.example/common"'}),
        httpx2.Response(200),
    ],
)
def test_a_tenant_that_is_not_told(answer: httpx2.Response) -> None:
    """The flags to check are named."""

    async def main() -> str:
        async with open_http(
            ssl.create_default_context(), hosts_of(BASE), httpx2.MockTransport(lambda _: answer)
        ) as http:
            return await discover_tenant(http, BASE, SUBSCRIPTION)

    with pytest.raises(EntraError, match=r"--subscription-id and --azure-env, or name the tenant with --tenant-id"):
        asyncio.run(main())


def test_no_secret_is_shown() -> None:
    """Neither by a value's text nor by an error."""
    credentials = Credentials("client_secret", "c", SECRET, private_key=SECRET, passphrase=SECRET)
    assert SECRET not in repr(credentials)
    context = ssl.create_default_context()
    entra = EntraHttp(context, hosts_of(BASE), httpx2.MockTransport(lambda _: httpx2.Response(500, text=SECRET)))
    with pytest.raises(AzwiError) as problem:
        asyncio.run(sign_in(credentials, f"{BASE}/", TENANT, entra).token("x/.default"))
    entra.close()
    assert SECRET not in str(problem.value)
