"""Names that are made, and values as they are written."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azwi.identity.names import (
    account_of,
    application_name,
    compare_issuers,
    credential_name,
    identity_credential_name,
    subject_of,
)
from azwi.identity.values import is_guid, is_identity_id, parse_duration, resource_id_of

ISSUER = "https://oidc.example/abc/"
# Azure Resource Manager's own pattern for the name of a managed identity's federated credential.
ALLOWED = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9-_]{2,119}")
NAMES = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,250}[a-z0-9])?", fullmatch=True)


def test_names_are_the_references() -> None:
    """As recorded of the reference: what it made is found again."""
    assert "ns1-sa1-puVA-pJ_GD2ktn96cx6VxkeVFuLY5fZ7CEAw95R98Zk=" == application_name("ns1", "sa1", ISSUER)
    assert "llIjQ-vG9JPnRXXLHgFBgGNsmeDONF88XuTjjdywXVk=" == credential_name("ns1", "sa1", ISSUER)


@given(NAMES, NAMES)
def test_every_service_account_has_a_name_that_azure_takes(namespace: str, name: str) -> None:
    """Whatever Kubernetes allows; another account or another issuer gives another name."""
    made = identity_credential_name(namespace, name, ISSUER)
    assert ALLOWED.fullmatch(made)
    assert made != identity_credential_name(namespace, name, ISSUER + "x")
    assert made != identity_credential_name(namespace, name + "x", ISSUER)


@pytest.mark.parametrize(
    ("given_issuer", "actual", "words"),
    [
        ("https://i/a", "https://i/a", ""),
        ("https://i/a", "", ""),
        ("https://i/a", "https://i/a/", "slash at the end"),
        ("https://i/A", "https://i/a/", "upper and lower case"),
        ("https://i/b", "https://i/a", "they are different"),
    ],
)
def test_issuers_are_compared_as_entra_does(given_issuer: str, actual: str, words: str) -> None:
    """Byte by byte; how they differ is told."""
    assert words in compare_issuers(given_issuer, actual)
    assert bool(words) == bool(compare_issuers(given_issuer, actual))


def test_subjects() -> None:
    """To and from a service account; other subjects are none."""
    assert ("shop", "orders") == account_of(subject_of("shop", "orders"))
    assert [None] * 3 == [account_of(one) for one in ("", "repo:shop", "system:serviceaccount:a:b:c")]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1h", 3600),
        ("1h0m0s", 3600),
        ("90m", 5400),
        ("1.5h", 5400),
        ("3600s", 3600),
        ("3600.6s", 3601),
        ("3600500ms", 3601),
        ("3600", None),
        ("", None),
        ("1d", None),
        ("-1h", None),
        ("1h ", None),
    ],
)
def test_durations_are_gos(text: str, seconds: int | None) -> None:
    """A unit is needed; parts are added and rounded to whole seconds."""
    assert seconds == parse_duration(text)


def test_ids() -> None:
    """Paths of managed identities, in any case, and GUIDs."""
    path = resource_id_of("S", "g", "n")
    assert [True, True, False, False] == [is_identity_id(one) for one in (path, path.lower(), path + "/x", "/x")]
    assert [True, False] == [is_guid(one) for one in ("44444444-4444-4444-4444-44444444abCD", "4444")]
