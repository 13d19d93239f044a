"""When a request to Graph or Resource Manager is sent again, and what is said when it is not."""

from __future__ import annotations

from typing import Any

import pytest

from azwi.entra.federation import FederatedCredential, read_credential, render_credential
from azwi.entra.refusals import PATIENCE, Refusal, ServiceError, advise, decide_delay, describe, read_refusal

BUSY = "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity"


def refusal(status: int | None, code: str = "", retry_after: float | None = None, *details: str) -> Refusal:
    """A refusal of Graph."""
    return Refusal("Graph", "PUT /x", status, code, "No.", "trace", retry_after, frozenset(details))


@pytest.mark.parametrize(
    ("status", "code", "details", "repeatable", "awaiting", "again"),
    [
        (429, "TooManyRequests", (), False, False, True),
        (503, "", (), False, False, True),
        (500, "", (), True, False, True),
        (500, "", (), False, False, False),
        (502, "", (), True, False, True),
        (None, "", (), True, False, True),
        (None, "", (), False, False, False),
        (409, BUSY, (), True, False, True),
        (409, "Conflict", (), True, False, False),
        (409, "RoleAssignmentExists", (), True, True, False),
        (404, "ResourceNotFound", (), True, True, True),
        (404, "ResourceNotFound", (), True, False, False),
        (404, "ResourceGroupNotFound", (), True, True, False),
        (404, "SubscriptionNotFound", (), True, True, False),
        (404, "InvalidResourceType", (), True, True, False),
        (404, "RoleDefinitionDoesNotExist", (), True, True, False),
        (400, "PrincipalNotFound", (), True, True, True),
        (400, "PrincipalNotFound", (), True, False, False),
        (400, "Request_BadRequest", ("NoBackingApplicationObject",), True, True, True),
        (400, "Request_BadRequest", (), True, True, False),
        (403, "Authorization_RequestDenied", (), True, True, False),
        (401, "", (), True, True, False),
    ],
)
def test_what_is_tried_again(
    status: int | None,
    code: str,
    details: tuple[str, ...],
    repeatable: bool,  # noqa: FBT001
    awaiting: bool,  # noqa: FBT001
    again: bool,  # noqa: FBT001
) -> None:
    """By status and code alone: what passes by itself, and never what would do twice what it should do once."""
    found = refusal(status, code, None, *details)
    assert again == (decide_delay(found, 0, 0.0, repeatable=repeatable, awaiting=awaiting) is not None)


def test_delays_grow_up_to_a_bound_and_end() -> None:
    """Half a second, doubled, 15 s at most; two minutes in all, four for what was created a moment ago."""
    busy = refusal(409, BUSY)
    delays = [decide_delay(busy, attempt, 0.0, repeatable=True, awaiting=False) for attempt in range(20)]
    assert [0.5, 1.0, 2.0, 4.0, 8.0, 15.0] == delays[:6]
    assert {15.0} == set(delays[6:])
    assert decide_delay(busy, 9, PATIENCE - 14, repeatable=True, awaiting=False) is None
    new = refusal(404)
    assert decide_delay(new, 9, 200.0, repeatable=True, awaiting=True) == 15.0
    assert decide_delay(new, 9, 230.0, repeatable=True, awaiting=True) is None


def test_the_services_own_wish_counts() -> None:
    """Retry-After is a lower bound; one that is longer than the patience ends it."""
    assert decide_delay(refusal(429, "", 30.0), 0, 0.0, repeatable=True, awaiting=False) == 30.0
    assert decide_delay(refusal(429, "", 0.0), 0, 0.0, repeatable=True, awaiting=False) == 0.5
    assert decide_delay(refusal(429, "", 3600.0), 0, 0.0, repeatable=True, awaiting=False) is None


GRAPH_ERROR: dict[str, Any] = {
    "error": {
        "code": "Request_BadRequest",
        "message": "The appId\n is wrong.",
        "innerError": {"request-id": "from-body"},
        "details": [{"code": "NoBackingApplicationObject"}, "?", {}],
    }
}


@pytest.mark.parametrize(
    ("document", "headers", "code", "trace", "details"),
    [
        (GRAPH_ERROR, {}, "Request_BadRequest", "from-body", frozenset({"NoBackingApplicationObject", ""})),
        (
            GRAPH_ERROR,
            {"request-id": "from-header"},
            "Request_BadRequest",
            "from-header",
            frozenset({"NoBackingApplicationObject", ""}),
        ),
        ({"error": {"code": 7}}, {"x-ms-correlation-request-id": "arm"}, "", "arm", frozenset()),
        (None, {}, "", "", frozenset()),
        ({"error": "text"}, {}, "", "", frozenset()),
        ([], {}, "", "", frozenset()),
    ],
)
def test_error_bodies(
    document: object, headers: dict[str, str], code: str, trace: str, details: frozenset[str]
) -> None:
    """Both services' shape; anything else is a refusal without a code."""
    found = read_refusal("Graph", "POST /x", 400, document, headers, None)
    assert (code, trace, details) == (found.code, found.correlation_id, found.details)


def test_refusals_are_told_with_what_to_do() -> None:
    """Service, request, status, code, the service's own text, the correlation id, and a hint."""
    assert (
        "Graph refused PUT /x with 403 AuthorizationFailed: No (correlation id trace); the signed-in identity needs"
        in str(ServiceError(refusal(403, "AuthorizationFailed")))
    )
    assert "Graph could not be asked (PUT /x): No." == describe(refusal(None))
    odd = Refusal("Graph", "PUT /x", 200, message="that is no JSON object")
    assert "Graph answered PUT /x with 200, but that is no JSON object" == describe(odd)
    assert "Graph refused PUT /x with 400" == describe(Refusal("Graph", "PUT /x", 400))


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (200, "HTTPS_PROXY"),
        (401, "sign in again"),
        (403, "lacks"),
        (429, "later"),
        (500, "again"),
        (None, "again"),
        (400, ""),
    ],
)
def test_hints_by_status(status: int | None, words: str) -> None:
    """Where the code says nothing."""
    assert words in advise(refusal(status))
    assert bool(words) == bool(advise(refusal(status)))


FLEXIBLE = FederatedCredential("n", "https://i", "", ("a",), expression="claims['sub'] eq 'x'")
EXACT = FederatedCredential("n", "https://i", "s", ("a",), description="d")


@pytest.mark.parametrize("credential", [FLEXIBLE, EXACT])
def test_credentials_are_read_as_they_are_written(credential: FederatedCredential) -> None:
    """In Graph's shape and in Resource Manager's."""
    document = render_credential(credential)
    graph = read_credential(document | {"id": "i", "name": "n", "description": credential.description})
    manager = read_credential({"id": "/path", "name": "n", "properties": document})
    assert ("i", "n") == (graph.identifier, manager.identifier)
    assert credential.trusted == graph.trusted == manager.trusted
    assert credential.description == graph.description


def test_a_credential_of_another_shape_has_empty_members() -> None:
    """Nothing is made up."""
    assert FederatedCredential("", "", "", ()) == read_credential({"subject": None, "claimsMatchingExpression": None})
