"""The emulated Microsoft Graph: what it answers, and that it keeps what it was told."""

from __future__ import annotations

from typing import Any

import pytest
from emulated_services import OPERATOR, TRUST, Service, filtered, graph

from azwi.emulator.exchange import match_credential
from azwi.emulator.expression import is_expression, matches_subject

APPLICATIONS = "/v1.0/applications"
PRINCIPALS = "/v1.0/servicePrincipals"
OPERATORS = f"{APPLICATIONS}/operator-object"
CREDENTIALS = f"{OPERATORS}/federatedIdentityCredentials"
FLEXIBLE: dict[str, Any] = {
    "claimsMatchingExpression": {"value": "claims['sub'] matches 'shop:*'", "languageVersion": 1}
}


def code(answer: tuple[int, Any]) -> tuple[int, str]:
    """Status and error code."""
    return answer[0], answer[1]["error"]["code"]


def created(service: Service, name: str = "orders") -> dict[str, Any]:
    """A new application."""
    status, made = service.ask("POST", APPLICATIONS, displayName=name)
    assert 201 == status
    assert isinstance(made, dict)
    return made


def test_an_application_from_its_birth_to_its_end() -> None:
    """Created, found by its name, given a principal, deleted with it."""
    service = graph()
    made = created(service, "it's")
    assert [made] == service.ask("GET", APPLICATIONS, filtered("displayName eq 'it''s'"))[1]["value"]
    assert [] == service.ask("GET", PRINCIPALS, filtered(f"appId eq '{made['appId']}'"))[1]["value"]
    status, principal = service.ask("POST", PRINCIPALS, appId=made["appId"], tags=["t"])
    assert (201, ["t"], "Application") == (status, principal["tags"], principal["servicePrincipalType"])
    assert (200, made) == service.ask("GET", f"{APPLICATIONS}(appId='{made['appId']}')")
    assert (200, principal) == service.ask("GET", f"{PRINCIPALS}/{principal['id']}")
    assert 204 == service.ask("DELETE", f"{PRINCIPALS}(appId='{made['appId']}')")[0]
    assert 404 == service.ask("GET", f"{PRINCIPALS}/{principal['id']}")[0]
    assert 204 == service.ask("DELETE", f"{APPLICATIONS}/{made['id']}")[0]
    assert (404, "Request_ResourceNotFound") == code(service.ask("DELETE", f"{APPLICATIONS}/{made['id']}"))
    assert (404, "Request_ResourceNotFound") == code(service.ask("GET", f"{APPLICATIONS}/{made['id']}"))


def test_a_second_principal_is_refused() -> None:
    """There is one in a tenant."""
    answer = graph().ask("POST", PRINCIPALS, appId=OPERATOR.client_id)
    assert (409, "Request_MultipleObjectsWithSameKeyValue") == code(answer)


@pytest.mark.parametrize("body", [{"appId": "nobody"}, {}])
def test_a_principal_without_an_application_is_refused(body: dict[str, Any]) -> None:
    """The particular code stands in the details."""
    status, answer = graph().ask("POST", PRINCIPALS, **body)
    assert (400, "NoBackingApplicationObject") == (status, answer["error"]["details"][0]["code"])


def test_what_is_new_is_unknown_for_a_while() -> None:
    """Its principal and its credentials are refused until it is known everywhere."""
    service = graph(replication=60.0)
    made = created(service)
    assert 400 == service.ask("POST", PRINCIPALS, appId=made["appId"])[0]
    path = f"{APPLICATIONS}/{made['id']}/federatedIdentityCredentials"
    assert (404, "Request_ResourceNotFound") == code(service.ask("POST", path, **TRUST))
    service.now += 60
    assert 201 == service.ask("POST", PRINCIPALS, appId=made["appId"])[0]
    assert 201 == service.ask("POST", path, **TRUST)[0]


def test_credentials() -> None:
    """Added, read, changed and removed; the token endpoint goes by them."""
    service = graph()
    status, made = service.ask("POST", CREDENTIALS, **TRUST, description="d")
    assert (201, "d") == (status, made["description"])
    assert made in service.ask("GET", CREDENTIALS)[1]["value"]
    path = f"{CREDENTIALS}/{made['id']}"
    assert 204 == service.ask("PATCH", path, audiences=["b"])[0]
    assert ["b"] == service.ask("GET", f"{CREDENTIALS}/one")[1]["audiences"]
    assert 204 == service.ask("DELETE", path)[0]
    assert 404 == service.ask("GET", path)[0]
    assert 404 == service.ask("DELETE", path)[0]
    assert 204 == service.ask("DELETE", f"{CREDENTIALS}/first")[0]


def test_flexible_credentials_are_seen_whole_in_beta_only() -> None:
    """In v1.0 such a credential has no subject and no expression."""
    service = graph()
    beta = CREDENTIALS.replace("/v1.0/", "/beta/")
    body: dict[str, Any] = {"name": "all", "issuer": "https://i.example", "audiences": ["a"]}
    assert (400, "InvalidFederatedIdentityCredentialValue") == code(
        service.ask("POST", CREDENTIALS, **body, **FLEXIBLE)
    )
    assert 201 == service.ask("POST", beta, **body, **FLEXIBLE)[0]
    seen = {version: service.ask("GET", f"{path}/all")[1] for version, path in (("v1.0", CREDENTIALS), ("beta", beta))}
    assert seen["v1.0"]["subject"] is None
    assert "claimsMatchingExpression" not in seen["v1.0"]
    assert FLEXIBLE["claimsMatchingExpression"] == seen["beta"]["claimsMatchingExpression"]
    application = service.directory.tenants[0].applications[0]
    assert application.credentials[-1].expression
    assert callable(match_credential)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"name": "first"}, (409, "Request_MultipleObjectsWithSameKeyValue")),
        ({"subject": "first"}, (400, "InvalidFederatedIdentityCredentialValue")),
        ({"name": "a b"}, (400, "InvalidFederatedIdentityCredentialValue")),
        ({"issuer": "http://i.example"}, (400, "InvalidFederatedIdentityCredentialValue")),
        ({"audiences": ["a", "b"]}, (400, "InvalidFederatedIdentityCredentialValue")),
        ({"audiences": []}, (400, "InvalidFederatedIdentityCredentialValue")),
        ({"subject": ""}, (400, "InvalidFederatedIdentityCredentialValue")),
    ],
)
def test_credentials_that_are_refused(changes: dict[str, Any], expected: tuple[int, str]) -> None:
    """A name that is taken, a trust that is there, values that are not allowed."""
    assert expected == code(graph().ask("POST", CREDENTIALS, **(TRUST | changes)))


def test_a_credential_cannot_become_another() -> None:
    """A change is checked as an addition is."""
    service = graph()
    service.ask("POST", CREDENTIALS, **TRUST)
    assert 400 == service.ask("PATCH", f"{CREDENTIALS}/one", subject="first")[0]
    assert 400 == service.ask("PATCH", f"{CREDENTIALS}/one", issuer="x")[0]


def test_twenty_credentials_are_the_most() -> None:
    """The twenty-first is refused."""
    service = graph()
    for number in range(19):
        assert 201 == service.ask("POST", CREDENTIALS, **(TRUST | {"name": f"n-{number}", "subject": f"s{number}"}))[0]
    assert (403, "Directory_QuotaExceeded") == code(service.ask("POST", CREDENTIALS, **TRUST))


def test_lists_come_in_pages() -> None:
    """Each with a link to the next, which keeps the filter."""
    service = graph(page=2)
    for number in range(4):
        created(service, f"app-{number}")
    _, first = service.ask("GET", APPLICATIONS)
    link = first["@odata.nextLink"]
    assert 2 == len(first["value"])
    _, second = service.ask("GET", APPLICATIONS, link.partition("?")[2])
    _, third = service.ask("GET", APPLICATIONS, second["@odata.nextLink"].partition("?")[2])
    assert "@odata.nextLink" not in third
    names = [one["displayName"] for page in (first, second, third) for one in page["value"]]
    assert ["operator", *(f"app-{number}" for number in range(4))] == names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("displayName eq 'OPERATOR'", ["operator"]),
        ("displayName eq 'operator' and appId eq 'x'", []),
        ("displayName eq 'this and that'", []),
    ],
)
def test_filters(text: str, names: list[str]) -> None:
    """Equality without regard to case, joined by and."""
    found = graph().ask("GET", APPLICATIONS, filtered(text))[1]["value"]
    assert names == [one["displayName"] for one in found]


@pytest.mark.parametrize(
    ("method", "path", "query", "raw", "expected"),
    [
        ("GET", "/v9/applications", "", b"", (400, "BadRequest")),
        ("GET", "/", "", b"", (400, "BadRequest")),
        ("GET", "/v1.0", "", b"", (404, "ResourceNotFound")),
        ("GET", "/v1.0/users", "", b"", (404, "ResourceNotFound")),
        ("GET", APPLICATIONS, filtered("startswith(displayName,'x')"), b"", (400, "Request_UnsupportedQuery")),
        ("POST", APPLICATIONS, "", b"[", (400, "Request_BadRequest")),
        ("POST", APPLICATIONS, "", b"[]", (400, "Request_BadRequest")),
        ("PUT", OPERATORS, "", b"", (405, "Request_BadRequest")),
    ],
)
def test_requests_that_mean_nothing(method: str, path: str, query: str, raw: bytes, expected: tuple[int, str]) -> None:
    """Refused in Graph's shape, with the ids that its support asks for."""
    service = graph()
    status, answer = service.ask(method, path, query, raw=raw)
    assert expected == (status, answer["error"]["code"])
    assert {"date", "request-id", "client-request-id"} == answer["error"]["innerError"].keys()


def test_a_caller_of_no_tenant() -> None:
    """A token that outlived its tenant."""
    service = graph()
    service.tenant_id = "00000000-0000-0000-0000-000000000000"
    assert (401, "InvalidAuthenticationToken") == code(service.ask("GET", APPLICATIONS))


@pytest.mark.parametrize(
    ("expression", "subject", "expected"),
    [
        ("claims['sub'] eq 'a'", "a", True),
        ("claims['sub'] eq 'a'", "ab", False),
        ("claims['sub'] matches 'shop:*'", "shop:orders", True),
        ("claims['sub'] matches 'shop:?'", "shop:orders", False),
        ("claims['sub'] matches 's*' and claims['sub'] matches '*s'", "shops", True),
        ("claims['sub'] matches 's*' and claims['sub'] eq 'x'", "shops", False),
        ("nonsense", "nonsense", False),
    ],
)
def test_expressions(expression: str, subject: str, expected: bool) -> None:  # noqa: FBT001
    """Wildcards, one character, both sides of an and."""
    assert expected == matches_subject(expression, subject)


@pytest.mark.parametrize("text", ["", "claims['sub'] like 'x'", "claims['aud'] eq 'x'", "claims['sub'] eq 'a' or x"])
def test_what_is_no_expression(text: str) -> None:
    """Other operators, other claims."""
    assert not is_expression(text)
