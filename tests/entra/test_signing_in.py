"""Signing in, finding the tenant, and never asking a host of another cloud. The transport is the only stand-in."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import nullcontext

import httpx2
import pytest

from azwi.entra.arm import ResourceManager, discover_tenant
from azwi.entra.clouds import CHINA, GERMAN, PUBLIC, US_GOVERNMENT, Cloud
from azwi.entra.federation import FederatedCredential
from azwi.entra.graph import Graph
from azwi.entra.hosts import hosts_of, open_http
from azwi.entra.rest import RestClient
from azwi.entra.signin import PAUSES, Credentials, EntraHttp, exchange, sign_in
from azwi.errors import AzwiError, EntraError

TENANT = "11111111-1111-1111-1111-111111111111"
SUBSCRIPTION = "44444444-4444-4444-4444-444444444444"
SECRET = "hunter2-hunter2"  # noqa: S105  # a mark
BASE = "https://graph.example"


def fault(status: int, **headers: str) -> httpx2.Response:
    """A refusal."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx2.Response(status, json={"error": "no"}, headers=named)


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


@pytest.mark.parametrize(
    ("failures", "slept", "signed_in"),
    [
        ([fault(503)], [0.5], True),
        ([fault(429, Retry_After="7"), None], [7.0, 1.0], True),
        ([fault(429, Retry_After="900"), fault(500), fault(502)], [30.0, 1.0, 2.0], True),
        ([None, None, None, None], [0.5, 1.0, 2.0], False),
        ([fault(503)] * 4, [0.5, 1.0, 2.0], False),
        ([fault(401)] * 2, [], False),
    ],
)
def test_signing_in_is_tried_again_where_that_may_help(
    failures: list[httpx2.Response | None],
    slept: list[float],
    signed_in: bool,  # noqa: FBT001
) -> None:
    """Throttling, outages and broken connections pass; a refusal does not, and neither patience is endless."""
    world, left, waited = World(PUBLIC), list(failures), list[float]()

    def answer(request: httpx2.Request) -> httpx2.Response:
        if left and request.url.path.endswith("/token"):
            failure = left.pop(0)
            if failure is None:
                raise httpx2.ConnectError("connection refused", request=request)
            return failure
        return world.answer(request)

    context, transport = ssl.create_default_context(), httpx2.MockTransport(answer)
    entra = EntraHttp(context, hosts_of(PUBLIC.authority_host), transport, PAUSES, waited.append)
    who = sign_in(Credentials("client_secret", "c", SECRET), PUBLIC.authority_host, TENANT, entra)
    with nullcontext() if signed_in else pytest.raises(EntraError, match="sign-in failed"):
        assert "t" == asyncio.run(who.token(f"{PUBLIC.graph}/.default"))
    entra.close()
    assert slept == waited


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
