"""Reading a state: what becomes of it, and how its mistakes are told."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from azwi.emulator.directory import resolve_own_issuer
from azwi.emulator.state import parse_state
from azwi.errors import ManifestError

TENANT = "AAAAAAAA-1111-1111-1111-111111111111"
CLIENT = "BBBBBBBB-2222-2222-2222-222222222222"
STATE: dict[str, Any] = {
    "tenants": [
        {
            "id": TENANT,
            "domain": "Contoso.onmicrosoft.com",
            "applications": [
                {
                    "clientId": CLIENT,
                    "displayName": "orders",
                    "federatedCredentials": [
                        {"name": "prod", "issuer": "cluster", "subject": "system:serviceaccount:shop:orders"},
                        {"name": "other", "issuer": "https://a.example/b/", "subject": "s", "audience": "api://x"},
                    ],
                }
            ],
        }
    ],
    "resources": ["api://Listed/"],
}


def test_a_state_becomes_a_directory() -> None:
    """Names are looked up whatever their case; `cluster` becomes the issuer's URL; the audience has its default."""
    directory = resolve_own_issuer(parse_state(STATE, "state.yaml"), "https://localhost:1/cluster")
    tenant = directory.tenant("CONTOSO.onmicrosoft.com")
    assert tenant is not None
    assert tenant is directory.tenant(TENANT)
    assert "contoso.onmicrosoft.com" == tenant.name
    application = tenant.application(CLIENT)
    assert application is not None
    assert [
        ("https://localhost:1/cluster", "api://AzureADTokenExchange"),
        ("https://a.example/b/", "api://x"),
    ] == [(credential.issuer, credential.audience) for credential in application.credentials]
    assert directory.resource(tenant, "api://listed")
    assert directory.tenant("") is None


def test_object_ids_are_the_same_in_every_run() -> None:
    """A service principal keeps its id over restarts."""
    ids = {parse_state(STATE, "state.yaml").tenants[0].applications[0].object_id for _ in range(2)}
    assert 1 == len(ids)
    assert CLIENT.lower() not in ids


def _changed(path: str, value: object) -> dict[str, Any]:
    state = copy.deepcopy(STATE)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place: Any = state
    for part in parents:
        place = place[part]
    place[last] = value
    return state


APP = "tenants.0.applications.0"
CREDENTIAL = f"{APP}.federatedCredentials.0"


@pytest.mark.parametrize(
    ("expected", "path", "value"),
    [
        ("tenants: expected `array`, got `str`", "tenants", "x"),
        ("tenants: at least one tenant is needed", "tenants", []),
        ("tenants[0].id: 'x' is not a GUID", "tenants.0.id", "x"),
        ("tenants[0].id: expected `str`, got `int`", "tenants.0.id", 7),
        ("tenants[0].domain: 'no domain' is not a domain name", "tenants.0.domain", "no domain"),
        ("tenants[0]: object contains unknown field `applicatons`", "tenants.0.applicatons", []),
        ("tenants[0].applications[0].clientId: '' is not a GUID", f"{APP}.clientId", ""),
        ("federatedCredentials: the name 'other' is given more than once", f"{CREDENTIAL}.name", "other"),
        ("federatedCredentials[0].name: 'a b' must be 3 to 120 letters", f"{CREDENTIAL}.name", "a b"),
        ("federatedCredentials[0].issuer: 'http://a' must be the word cluster", f"{CREDENTIAL}.issuer", "http://a"),
        ("federatedCredentials[0].issuer: 'Cluster' must be", f"{CREDENTIAL}.issuer", "Cluster"),
        ("federatedCredentials[0].issuer: 'https://a:b' must be", f"{CREDENTIAL}.issuer", "https://a:b"),
        ("federatedCredentials[0].issuer: 'https://a/?b' must be", f"{CREDENTIAL}.issuer", "https://a/?b"),
        ("federatedCredentials[0].subject: must have 1 to 600", f"{CREDENTIAL}.subject", ""),
        ("federatedCredentials[0].audience: must have 1 to 600", f"{CREDENTIAL}.audience", "x" * 601),
        ("resources[0]: 'a b' is not a resource", "resources.0", "a b"),
    ],
)
def test_mistakes_name_file_and_field(expected: str, path: str, value: object) -> None:
    """An error says in which file, in which field, and what is allowed there."""
    with pytest.raises(ManifestError) as raised:
        parse_state(_changed(path, value), "state.yaml")
    assert str(raised.value).startswith("state.yaml: ")
    assert expected in str(raised.value)


@pytest.mark.parametrize("document", [None, [], "text", 7])
def test_what_is_no_mapping_is_told(document: object) -> None:
    """An empty file or a list is no state, and the hint says what one holds."""
    with pytest.raises(ManifestError, match=r"state.yaml: the document: expected `object`.*allowed are tenants"):
        parse_state(document, "state.yaml")


def test_all_mistakes_are_told_together() -> None:
    """Whoever mends a state need not start again for each mistake."""
    state = _changed("tenants.0.id", "x") | {"resources": [""]}
    with pytest.raises(ManifestError, match=r"tenants\[0\]\.id.*resources\[0\]"):
        parse_state(state, "state.yaml")


def test_tenants_and_applications_are_unique() -> None:
    """Two tenants with one id and two applications with one client id are mistakes."""
    state = copy.deepcopy(STATE)
    state["tenants"] *= 2
    with pytest.raises(ManifestError, match=r"tenants: the id or domain '.*' is given more than once"):
        parse_state(state, "state.yaml")
    state = copy.deepcopy(STATE)
    state["tenants"][0]["applications"] *= 2
    with pytest.raises(ManifestError, match=r"applications: the clientId '.*' is given more than once"):
        parse_state(state, "state.yaml")


def test_an_application_has_at_most_twenty_credentials() -> None:
    """Entra's limit holds here, too."""
    many = [{"name": f"name-{number}", "issuer": "cluster", "subject": str(number)} for number in range(21)]
    with pytest.raises(ManifestError, match=r"21 are too many, an identity has at most 20"):
        parse_state(_changed(f"{APP}.federatedCredentials", many), "state.yaml")
