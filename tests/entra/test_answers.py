"""Answers that say yes and are not what the service's reference describes: told in a sentence, never a traceback."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from azwi.entra.arm import ResourceManager
from azwi.entra.federation import FederatedCredential
from azwi.entra.graph import Graph
from azwi.entra.hosts import hosts_of, open_http
from azwi.entra.refusals import ServiceError
from azwi.entra.rest import Patience, RestClient
from azwi.errors import EntraError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

BASE = "https://service.example"
CONTEXT = ssl.create_default_context()  # takes longer than a test
IDENTITY = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i"
CREDENTIAL = FederatedCredential("n", "https://issuer", "system:serviceaccount:a:b", ("aud",))

# Each asks for one thing.
CALLS: dict[str, Callable[[RestClient], Awaitable[Any]]] = {
    "find_applications": lambda rest: Graph(rest).find_applications("x"),
    "find_application_by_client_id": lambda rest: Graph(rest).find_application_by_client_id("x"),
    "read_application": lambda rest: Graph(rest).read_application("x"),
    "create_application": lambda rest: Graph(rest).create_application("x"),
    "find_principal": lambda rest: Graph(rest).find_principal("x"),
    "create_principal": lambda rest: Graph(rest).create_principal("x", "tag"),
    "graph.list_credentials": lambda rest: Graph(rest).list_credentials("x"),
    "list_subscriptions": lambda rest: ResourceManager(rest).list_subscriptions(),
    "read_identity": lambda rest: ResourceManager(rest).read_identity(IDENTITY),
    "create_identity": lambda rest: ResourceManager(rest).create_identity(IDENTITY, "here"),
    "read_group_location": lambda rest: ResourceManager(rest).read_group_location("s", "g"),
    "arm.list_credentials": lambda rest: ResourceManager(rest).list_credentials(IDENTITY),
    "put_credential": lambda rest: ResourceManager(rest).put_credential(IDENTITY, CREDENTIAL),
    "find_role": lambda rest: ResourceManager(rest).find_role("/subscriptions/s", "Reader"),
    "list_assignments": lambda rest: ResourceManager(rest).list_assignments("/subscriptions/s", "p"),
    "assign_role": lambda rest: ResourceManager(rest).assign_role("/subscriptions/s", "r", "p"),
}
NEEDED = {name for name in CALLS if name not in {"put_credential", "assign_role"} and "list_credentials" not in name}

ODD: list[Any] = [None, 5, "text", [], [5], {}, {"clientId": 5}]
ANSWERS: list[Any] = [
    *({"value": value} for value in [*ODD, [None], [[]]]),
    *({name: value} for name in ("id", "appId", "properties", "tags", "location") for value in ODD),
    *(
        {"value": [{"id": "x", "appId": "y", "subscriptionId": "z", name: value}]}
        for name in ("displayName", "alternativeNames", "properties", "audiences", "claimsMatchingExpression")
        for value in ODD
    ),
    {"value": [], "nextLink": 5},
]


def ask(call: str, document: object, status: int = 200) -> Any:  # noqa: ANN401
    """What a method makes of a server that answers so, whatever it is asked."""

    async def main() -> Any:  # noqa: ANN401
        transport = httpx2.MockTransport(lambda _: httpx2.Response(status, json=document))
        async with open_http(CONTEXT, hosts_of(BASE), transport) as http:
            patience = Patience(lambda: 0.0, asyncio.sleep, lambda: 0.0)
            return await CALLS[call](RestClient("The service", BASE, http, Everybody(), patience))

    return asyncio.run(main())


class Everybody:
    """Somebody who is signed in."""

    async def token(self, scope: str) -> str:
        """A token that names its scope."""
        return scope


@pytest.mark.parametrize("call", CALLS)
def test_an_odd_answer_is_understood_or_refused(call: str) -> None:
    """Whatever a member holds; nothing but an EntraError escapes."""
    for document in ANSWERS:
        for status in (200, 201):
            with suppress(EntraError):
                ask(call, document, status)


@pytest.mark.parametrize("call", sorted(NEEDED))
def test_what_is_needed_is_named(call: str) -> None:
    """With who answered so, and what to look at: another party on the way."""
    document: Any = {"value": [{}]} if "find" in call or "list" in call else {}
    said = r"The service answered [A-Z]+ /\S* with 200, but it has no (id|subscriptionId|location);"
    with pytest.raises(ServiceError, match=said) as caught:
        ask(call, document)
    assert "HTTPS_PROXY" in caught.value.hint
