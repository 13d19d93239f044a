"""Which requests are answered, and how the others are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from azwi.proxy.identity_map import parse_identity_maps
from azwi.proxy.imds import Answer, Fault, Forward, Quit, Ready, Redirect, Request, Rules, TokenQuery, read_request
from azwi.proxy.imds import fault_answer as answer_fault
from azwi.proxy.paths import Passthrough

PATH = "/metadata/identity/oauth2/token"
VERSION = "api-version=2018-02-01"
RESOURCE = "resource=https%3A%2F%2Fvault.azure.net"
RULES = Rules(
    "c-default", identities=parse_identity_maps([("object_id=o-1,client_id=c-1\nmi_res_id=/s/r,client_id=c-2", "")])
)
HEADERS = (("host", "169.254.169.254"), ("metadata", "true"))


def read(query: str, rules: Rules = RULES) -> TokenQuery | Forward | Ready | Quit | Redirect | Fault:
    """What a token request with this query asks for."""
    return read_request(Request("GET", f"{PATH}?{query}", HEADERS), rules)


def refuse(query: str, rules: Rules = RULES) -> str:
    """Why a token request with this query is a bad request."""
    asked = read(query, rules)
    assert isinstance(asked, Fault)
    assert (400, "invalid_request") == (asked.status, asked.error)
    return asked.description


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (RESOURCE, TokenQuery("c-default", "https://vault.azure.net", "https://vault.azure.net/.default")),
        ("resource=https%3A%2F%2Fa.net%2F", TokenQuery("c-default", "https://a.net/", "https://a.net//.default")),
        ("resource=https%3A%2F%2Fa%2F.default", TokenQuery("c-default", "https://a/.default", "https://a/.default")),
        ("resource=api%3A%2F%2Fa&resource=b", TokenQuery("c-default", "api://a", "api://a/.default")),
        ("resource=2ff814a6", TokenQuery("c-default", "2ff814a6", "2ff814a6/.default")),
        ("scope=https%3A%2F%2Fa%2F.default", TokenQuery("c-default", "https://a", "https://a/.default")),
        ("scope=https%3A%2F%2Fa", TokenQuery("c-default", "https://a", "https://a/.default")),
        ("resource=&scope=b", TokenQuery("c-default", "b", "b/.default")),
        ("resource=a&scope=b", TokenQuery("c-default", "a", "a/.default")),
        ("resource=a&client_id=c", TokenQuery("c", "a", "a/.default")),
        ("resource=a&client_id=", TokenQuery("c-default", "a", "a/.default")),
        ("resource=a&client_id=c-1&client_id=c-2", TokenQuery("c-1", "a", "a/.default")),
        ("resource=a&Client_ID=c-1", TokenQuery("c-default", "a", "a/.default")),
        ("resource=a&object_id=o-1", TokenQuery("c-1", "a", "a/.default")),
        ("resource=a&principal_id=O-1", TokenQuery("c-1", "a", "a/.default")),
        ("resource=a&msi_res_id=%2Fs%2Fr", TokenQuery("c-2", "a", "a/.default")),
        ("resource=a&mi_res_id=/S/R", TokenQuery("c-2", "a", "a/.default")),
        ("resource=a&object_id=o-1&client_id=c-1", TokenQuery("c-1", "a", "a/.default")),
        ("resource=a&object_id=", TokenQuery("c-default", "a", "a/.default")),
        ("resource=a&object_id=o-1&object_id=o-1", TokenQuery("c-1", "a", "a/.default")),
        ("resource=a&object_id=o-1&client_id=C-1", TokenQuery("C-1", "a", "a/.default")),
    ],
)
def test_a_token_query_names_identity_and_scope(query: str, expected: TokenQuery) -> None:
    """The first value of a parameter counts, an empty one is absent, the resource is kept as it was given."""
    assert expected == read(f"{VERSION}&{query}")


@pytest.mark.parametrize("version", ["2018-02-01", "1999-01-01", "2025-05-01-preview"])
def test_any_plausible_version_will_do(version: str) -> None:
    """Versions are dates; which one makes no difference."""
    assert isinstance(read(f"api-version={version}&{RESOURCE}"), TokenQuery)


@pytest.mark.parametrize("version", ["", "api-version=", "api-version=latest", "api-version=2018-2-1"])
def test_a_version_is_required(version: str) -> None:
    """Without a date as api-version the request is bad."""
    assert "The api-version parameter" in refuse(f"{version}&{RESOURCE}")


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("", "The resource parameter is required."),
        ("resource=", "The resource parameter is required."),
        ("resource=a%20b", "one identifier without spaces"),
        ("resource=a%0d%0ab", "one identifier without spaces"),
        ("scope=a%2F.default+b%2F.default", "one identifier without spaces"),
        ("resource=a&object_id=x", "Identity not found: object_id='x' is not in the identity map"),
        ("resource=a&principal_id=x", "Identity not found: principal_id='x'"),
        ("resource=a&mi_res_id=o-1", "Identity not found: mi_res_id='o-1'"),
        ("resource=a&client_id=c&object_id=x", "Identity not found: object_id='x'"),
        ("resource=a&client_id=c&object_id=o-1", "names more than one identity"),
        ("resource=a&object_id=o-1&mi_res_id=/s/r", "names more than one identity"),
        ("resource=a&object_id=&object_id=x", "The parameter object_id is there more than once"),
        ("resource=a&object_id=o-1&object_id=x", "The parameter object_id is there more than once"),
        ("resource=%ff", "The query is no UTF-8 form"),
        ("&".join(["a=b"] * 65), "The query is no UTF-8 form of at most 64 parameters"),
    ],
)
def test_a_query_that_cannot_work_is_refused(query: str, complaint: str) -> None:
    """An identity that is named in another way never means another identity, and every refusal says what is wrong."""
    assert complaint in refuse(f"{VERSION}&{query}")


def test_every_problem_is_told_at_once() -> None:
    """All that is missing is named, the client id first as the reference does."""
    description = refuse("", Rules())
    assert description.startswith(
        "The client_id parameter or AZURE_CLIENT_ID environment variable must be set; The res"
    )
    assert "api-version" in description


@pytest.mark.parametrize("method", ["POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_a_token_is_asked_for_with_get(method: str) -> None:
    """Any other method on the token path is a 405 that says so."""
    asked = read_request(Request(method, f"{PATH}?{VERSION}&{RESOURCE}", HEADERS), RULES)
    assert isinstance(asked, Fault)
    answer = answer_fault(asked)
    assert answer.status == 405
    assert ("Allow", "GET") in answer.headers


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("metadata", "false")],
        [("metadata", "")],
        [("metadata", "true, true")],
        [("metadata", "true"), ("metadata", "true")],
        [("metadata", "true"), ("metadata", "false")],
        [("x-metadata", "true")],
    ],
)
@pytest.mark.parametrize("path", [PATH, "/metadata/instance"])
def test_the_metadata_header_is_required_once(headers: list[tuple[str, str]], path: str) -> None:
    """A request that somebody was tricked into sending lacks it, so it is refused, on whichever path."""
    request = Request("GET", f"{path}?{VERSION}&{RESOURCE}", [HEADERS[0], *headers])
    asked = read_request(request, RULES)
    assert isinstance(asked, Fault)
    assert asked.status == 400
    assert "Metadata: true" in asked.description
    assert not isinstance(read_request(request, replace(RULES, require_metadata_header=False)), Fault)


@pytest.mark.parametrize("path", [PATH, "/metadata/instance"])
def test_a_forwarded_request_is_refused(path: str) -> None:
    """X-Forwarded-For says that a proxy of somebody else sent it; no flag allows that."""
    request = Request("GET", f"{path}?{VERSION}&{RESOURCE}", [*HEADERS, ("x-forwarded-for", "")])
    for rules in (RULES, replace(RULES, require_metadata_header=False)):
        asked = read_request(request, rules)
        assert isinstance(asked, Fault)
        assert asked.status == 400


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "169.254.169.254:80", "127.0.0.1:8000", "localhost", "LOCALHOST:65535"]
)
def test_hosts_of_ours_are_answered(host: str) -> None:
    """The metadata address and loopback, with any port."""
    request = Request("GET", f"{PATH}?{VERSION}&{RESOURCE}", [("host", host), HEADERS[1]])
    assert isinstance(read_request(request, RULES), TokenQuery)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "169.254.169.254.evil.example",
        "localhost.",
        "localhost:",
        "127.0.0.1@evil.example",
        "127.0.0.1, evil.example",
        "[::1]",
        "",
        "127.0.0.2",
        "localhost:123456",
        "localhost\n",
    ],
)
@pytest.mark.parametrize("target", [f"{PATH}?{VERSION}&{RESOURCE}", "/metadata/instance", "/readyz", "/"])
def test_a_rebound_name_is_refused(host: str, target: str) -> None:
    """A web page whose name was made to mean our address gets nothing, on any path."""
    asked = read_request(Request("GET", target, [("host", host), HEADERS[1]]), RULES)
    assert isinstance(asked, Fault)
    assert asked.status == 400


def test_two_hosts_are_refused() -> None:
    """Two Host headers could be read in two ways."""
    asked = read_request(Request("GET", "/readyz", [HEADERS[0], HEADERS[0]]), RULES)
    assert Fault(400, "The Host header is there more than once") == asked


def test_http_1_0_needs_no_host() -> None:
    """HTTP/1.1 requires a Host header, 1.0 does not know it."""
    target = f"{PATH}?{VERSION}&{RESOURCE}"
    assert isinstance(read_request(Request("GET", target, HEADERS[1:], "1.0"), RULES), TokenQuery)
    assert isinstance(read_request(Request("GET", target, HEADERS[1:], "1.1"), RULES), Fault)


def test_the_absolute_form_counts_by_its_own_host() -> None:
    """A client that takes us for an HTTP proxy is answered, unless it means another host."""
    good = f"http://169.254.169.254{PATH}?{VERSION}&{RESOURCE}"
    assert isinstance(read_request(Request("GET", good, HEADERS), RULES), TokenQuery)
    bad = f"http://evil.example{PATH}?{VERSION}&{RESOURCE}"
    assert isinstance(read_request(Request("GET", bad, HEADERS), RULES), Fault)
    assert isinstance(read_request(Request("GET", "HTTP://localhost", HEADERS), RULES), Fault)


def test_other_places() -> None:
    """Readiness, the real service, the clean path and what is not served are told apart."""
    assert Ready() == read_request(Request("POST", "/readyzfoo?x", HEADERS[:1]), RULES)
    assert Forward("/metadata/instance?x=1") == read_request(Request("GET", "/metadata/instance?x=1", HEADERS), RULES)
    assert Redirect("/a?x=//") == read_request(Request("GET", "//a?x=//", HEADERS), RULES)
    assert Redirect("/a") == read_request(Request("GET", "/b/../a", HEADERS), RULES)
    doubled = Request("GET", f"/{PATH}?{VERSION}&{RESOURCE}", HEADERS)
    assert read(f"{VERSION}&{RESOURCE}") == read_request(doubled, RULES)  # as msal4j asks
    everything = replace(RULES, passthrough=Passthrough.ALL)
    for target, rules, status in [
        ("/metadata/identity/info", everything, 403),
        ("/", RULES, 403),
        ("/%252e", everything, 400),
    ]:
        asked = read_request(Request("GET", target, HEADERS), rules)
        assert isinstance(asked, Fault)
        assert status == asked.status


def test_a_fault_is_json() -> None:
    """Errors are documents that SDKs can read."""
    expected = Answer(
        400,
        (("Content-Type", "application/json; charset=utf-8"),),
        b'{"error":"invalid_request","error_description":"no"}',
    )
    assert expected == answer_fault(Fault(400, "no"))


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [("POST", (), 0), ("GET", (), 405), ("POST", (("x-forwarded-for", "1"),), 400), ("POST", (("origin", "x"),), 400)],
)
def test_quit(method: str, headers: tuple[tuple[str, str], ...], status: int) -> None:
    """With the flag a POST ends the program, though not one that a browser or a server sends for somebody else."""
    request = Request(method, "/quit", [("host", "localhost"), *headers])
    found = read_request(request, replace(RULES, allow_quit=True))
    assert status == (found.status if isinstance(found, Fault) else 0)
    assert isinstance(found, Fault if status else Quit)
    refused = read_request(request, RULES)
    assert isinstance(refused, Fault)
    assert refused.status == 403
