"""The refusals: every code once, in Entra's JSON."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest

from azwi.emulator import faults
from azwi.emulator.faults import FaultKind

KINDS = {name: kind for name, kind in vars(faults).items() if isinstance(kind, FaultKind)}
ASKED = {  # codes the flow must be able to hit
    *(700016, 90002, 50027, 700024, 700027, 70021, 700211, 700212, 700213, 70011, 500011, 900144, 7000218, 90061),
    *(1002012, 70003),
}


def test_every_code_that_the_flow_can_hit_is_there() -> None:
    """The documented codes of the client credentials flow are all known."""
    assert set() == ASKED - {kind.code for kind in KINDS.values()}


@pytest.mark.parametrize("name", KINDS)
def test_a_fault_renders_as_entra_does(name: str) -> None:
    """Code, text, ids and time stand in the description and, again, in fields of their own."""
    kind = KINDS[name]
    values = {field: f"<{field}>" for _, field, _, _ in string.Formatter().parse(kind.template) if field}
    fault = kind(**values)
    body = faults.render_body(fault, 1_800_000_000, "trace", "correlation")
    assert all(value in fault.text for value in values.values())
    assert {
        "error": kind.error,
        "error_description": (
            f"AADSTS{kind.code}: {fault.text} Trace ID: trace Correlation ID: correlation "
            "Timestamp: 2027-01-15 08:00:00Z"
        ),
        "error_codes": [kind.code],
        "timestamp": "2027-01-15 08:00:00Z",
        "trace_id": "trace",
        "correlation_id": "correlation",
        "error_uri": f"https://login.microsoftonline.com/error?code={kind.code}",
    } == body


@pytest.mark.parametrize("name", KINDS)
def test_only_failed_client_authentication_is_401(name: str) -> None:
    """The HTTP status follows from the OAuth error (RFC 6749 section 5.2)."""
    kind = KINDS[name]
    expected = {"invalid_client": 401, "temporarily_unavailable": kind.status}
    assert expected.get(kind.error, 400) == kind.status
    assert (kind.error == "temporarily_unavailable") == (kind.status in {429, 503})


def test_the_subject_is_quoted_as_entra_words_it() -> None:
    """The refusal people meet most reads word for word as Entra's."""
    assert (
        "No matching federated identity record found for presented assertion subject 'a{b}c'. Check your federated "
        "identity credential Subject, Audience and Issuer against the presented assertion. "
        "https://learn.microsoft.com/entra/workload-id/workload-identity-federation"
    ) == faults.NO_SUBJECT(subject="a{b}c").text


def test_the_documentation_lists_every_code() -> None:
    """docs/emulator.md has each code in the row of its status, and no other."""
    rows: dict[str, set[int]] = {"400": set(), "401": set(), "429, 503": set()}
    for code, kind in faults.BY_CODE.items():
        rows["429, 503" if kind.status in {429, 503} else str(kind.status)].add(code)
    text = (Path(__file__).parents[2] / "docs" / "emulator.md").read_text()
    found = re.findall(r"^\| (400|401|429, 503) \| ([\d, ]+) \|$", text, re.MULTILINE)
    assert rows == {status: {int(code) for code in codes.split(", ")} for status, codes in found}
