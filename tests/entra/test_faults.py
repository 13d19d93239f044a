"""Faults of Microsoft Entra: what a refusal means is decided by numbers."""

from __future__ import annotations

import pytest

from azwi.entra.faults import EntraFault, parse_retry_after, read_fault, unavailable


def test_an_error_document_is_read_whole() -> None:
    """The error, the AADSTS number, the text and the correlation id of an answer are kept."""
    fault = read_fault(
        {
            "error": "unauthorized_client",
            "error_description": "AADSTS700016: Application not found.",
            "error_codes": [700016],
            "correlation_id": "c",
        },
        status=400,
        retry_after=7,
    )
    assert (
        EntraFault("unauthorized_client", "AADSTS700016: Application not found.", 700016, "c", 400, retry_after=7)
        == fault
    )


@pytest.mark.parametrize("codes", [None, [], "70021", ["70021"], [True], {}, [None]])
def test_a_number_comes_from_error_codes_only(codes: object) -> None:
    """Text is never searched for an AADSTS number; without usable error_codes there is none."""
    fault = read_fault({"error": "invalid_client", "error_description": "AADSTS70021: x", "error_codes": codes})
    assert fault.code is None
    assert not fault.transient


def test_fields_of_another_type_count_as_absent() -> None:
    """A document with the wrong types still gives a fault."""
    fault = read_fault({"error": 1, "error_description": ["x"], "correlation_id": None})
    assert EntraFault("unknown_error", "") == fault


@pytest.mark.parametrize(
    ("code", "propagating", "stale"),
    [(70021, True, False), (700211, True, False), (700213, True, False), (700024, False, True), (700016, False, False)],
)
def test_codes_say_what_helps(code: int, propagating: bool, stale: bool) -> None:  # noqa: FBT001 - a table
    """Three numbers pass by themselves, one asks for a newer token file."""
    fault = read_fault({"error": "invalid_client", "error_codes": [code]}, status=400)
    assert propagating == fault.propagating
    assert stale == fault.stale_assertion
    assert propagating == fault.transient


@pytest.mark.parametrize(("status", "throttled", "down"), [(429, True, False), (503, False, True), (400, False, False)])
def test_statuses_say_what_helps(status: int, throttled: bool, down: bool) -> None:  # noqa: FBT001 - a table
    """429 is throttling, 5xx is unavailability, 400 is a decision."""
    fault = read_fault({"error": "x"}, status=status)
    assert throttled == fault.throttled
    assert down == fault.unavailable
    assert (throttled or down) == fault.transient


def test_an_unreachable_entra_is_unavailable() -> None:
    """Where there was no answer, asking again may help."""
    assert unavailable("gone").transient


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("0", 0),
        (" 12 ", 12),
        ("99999999999999", 3600),
        ("-1", None),
        ("1.5", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("\u0663", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds(value: str | None, expected: int | None) -> None:
    """Whole seconds count, an hour at most; a date or anything else counts as absent."""
    assert expected == parse_retry_after(value)
