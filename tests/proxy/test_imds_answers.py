"""The answers: what a token and what a fault of Entra look like to a program that knows IMDS only."""

from __future__ import annotations

import json

import pytest

from azwi.entra.faults import EntraFault, unavailable
from azwi.entra.tokens import AccessToken
from azwi.proxy.imds import (
    Answer,
    Redirect,
    TokenQuery,
    describe_fault,
    entra_fault_answer,
    quit_answer,
    ready_answer,
    redirect_answer,
    token_answer,
)

TOKEN = AccessToken("secret", obtained_at=1000, expires_on=4600, not_before=700, ext_expires_on=8200)
QUERY = TokenQuery("c", "https://a/", "https://a//.default")


def test_a_token_answer_is_what_imds_sends() -> None:
    """Each field is there, every number is text, the rest of the life counts from the time of the answer."""
    answer = token_answer(QUERY, TOKEN, 1600.7)
    assert answer.status == 200
    assert {
        "access_token": "secret",
        "client_id": "c",
        "expires_in": "2999",
        "expires_on": "4600",
        "ext_expires_in": "6599",
        "not_before": "700",
        "refresh_token": "",
        "resource": "https://a/",
        "token_type": "Bearer",
    } == json.loads(answer.body)


def test_a_life_is_never_negative() -> None:
    """A clock that jumped gives 0 seconds, not less."""
    assert json.loads(token_answer(QUERY, TOKEN, 9999).body)["expires_in"] == "0"


def test_a_token_hides_itself() -> None:
    """What prints a token by mistake does not print its secret."""
    assert "secret" not in repr(TOKEN)


@pytest.mark.parametrize(
    ("fault", "status", "error", "retry_after"),
    [
        (EntraFault("x", "d", 70021, status=400), 400, "invalid_request", None),
        (EntraFault("x", "d", 700016), 400, "invalid_request", None),
        (EntraFault("invalid_request", "d"), 400, "invalid_request", None),
        (EntraFault("x", "d", status=429, retry_after=7), 429, "temporarily_unavailable", "7"),
        (EntraFault("x", "d", status=429), 429, "temporarily_unavailable", "5"),
        (unavailable("d", status=503, retry_after=0), 503, "temporarily_unavailable", "0"),
        (unavailable("d"), 503, "temporarily_unavailable", "5"),
    ],
)
def test_only_what_may_pass_asks_for_another_try(
    fault: EntraFault, status: int, error: str, retry_after: str | None
) -> None:
    """Throttling is 429 and unavailability 503, with Retry-After; a refusal is a 400, which SDKs do not repeat."""
    answer = entra_fault_answer(fault)
    assert status == answer.status
    assert {"error": error, "error_description": describe_fault(fault)} == json.loads(answer.body)
    assert retry_after == dict(answer.headers).get("Retry-After")


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (EntraFault("x", "AADSTS7: no. Correlation ID: c", 7, "c"), "AADSTS7: no. Correlation ID: c"),
        (EntraFault("x", "no", 7, "c"), "AADSTS7: no Correlation ID: c"),
        (EntraFault("x", ""), "Microsoft Entra refused: x"),
        (EntraFault("x", "got eyJhbGciOiJ9.eyJzdWIiOiJ4In0.c2ln"), "got [redacted]"),
    ],
)
def test_a_description_helps_to_find_the_cause(fault: EntraFault, expected: str) -> None:
    """The AADSTS number and the correlation id are there once, and never anything like a token."""
    assert expected == describe_fault(fault)


def test_ready() -> None:
    """Readiness is the word ok."""
    assert (200, b"ok") == (ready_answer().status, ready_answer().body)


def test_quit() -> None:
    """The end is announced by the same word."""
    assert (200, b"ok") == (quit_answer().status, quit_answer().body)


def test_a_redirect() -> None:
    """The clean path is named and nothing else is said."""
    assert Answer(301, (("Location", "/a"),), b"") == redirect_answer(Redirect("/a"))
