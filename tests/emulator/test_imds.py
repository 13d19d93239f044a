"""The emulated metadata service: Microsoft's own clients get tokens from it, and refusals are IMDS's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx2
import jwt
import msal
import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import ManagedIdentityCredential

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from azwi.emulator.client import EmulatorClient

CATALOGUE = "55555555-5555-5555-5555-555555555555"
BILLING = "66666666-6666-6666-6666-666666666666"
TOKEN = "/metadata/identity/oauth2/token"  # noqa: S105  # a path
VAULT = {"resource": "https://vault.azure.net", "api-version": "2018-02-01"}


@pytest.fixture
def ask(emulator: EmulatorClient) -> Iterator[Callable[..., httpx2.Response]]:
    """One request to the metadata service."""
    with httpx2.Client(base_url=emulator.imds, trust_env=False) as client:

        def asked(path: str, headers: dict[str, str] | None = None, **query: str) -> httpx2.Response:
            return client.get(path, params=query, headers={"Metadata": "true"} if headers is None else headers)

        yield asked


def resource_id(name: str) -> str:
    """The Azure id of one of the state's managed identities."""
    scope = "/subscriptions/00000000-0000-0000-0000-000000000000/resourcegroups/emulated"
    return f"{scope}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}"


@pytest.mark.parametrize(
    "selector",
    [
        {"client_id": BILLING},
        {"client_id": BILLING.upper()},
        {"msi_res_id": resource_id("billing")},
        {"mi_res_id": resource_id("BILLING")},
    ],
)
def test_the_named_identity_gets_a_token(selector: dict[str, str], ask: Callable[..., httpx2.Response]) -> None:
    """Client id or resource id, whatever the case; all values are text, as IMDS has them."""
    body: dict[str, str] = ask(TOKEN, **VAULT, **selector).raise_for_status().json()

    assert {str} == {type(value) for value in body.values()}
    assert (BILLING, "https://vault.azure.net", "Bearer") == (body["client_id"], body["resource"], body["token_type"])
    claims = jwt.decode(body["access_token"], options={"verify_signature": False})
    assert (BILLING, resource_id("billing")) == (claims["appid"], claims["xms_mirid"])
    by_object: dict[str, str] = ask(TOKEN, **VAULT, object_id=claims["oid"]).json()
    assert BILLING == by_object["client_id"]


@pytest.mark.parametrize(
    ("description", "query"),
    [
        ("Multiple user assigned identities exist", VAULT),
        ("Identity not found", VAULT | {"client_id": "99999999-9999-9999-9999-999999999999"}),
        ("Only one of", VAULT | {"client_id": BILLING, "object_id": "x"}),
        ("Required audience parameter not specified", {"api-version": "2018-02-01", "client_id": BILLING}),
        ("api-version", {"resource": "https://vault.azure.net", "client_id": BILLING}),
        ("AADSTS500011", VAULT | {"client_id": BILLING, "resource": "https://unheard.of"}),
    ],
)
def test_what_cannot_be_answered_is_a_400(
    description: str, query: dict[str, str], ask: Callable[..., httpx2.Response]
) -> None:
    """An error and its description, in the shape that SDKs read."""
    answer = ask(TOKEN, **query)

    assert 400 == answer.status_code
    assert description in answer.json()["error_description"]


@pytest.mark.parametrize("headers", [{}, {"Metadata": "false"}, {"Metadata": "true", "X-Forwarded-For": "10.0.0.1"}])
@pytest.mark.parametrize("path", [TOKEN, "/metadata/instance", "/metadata/versions"])
def test_the_metadata_header_is_needed(path: str, headers: dict[str, str], ask: Callable[..., httpx2.Response]) -> None:
    """Without it, or through a proxy, nothing is told."""
    answer = ask(path, headers, **VAULT)

    assert 400 == answer.status_code
    assert "Required metadata header not specified" in answer.text


@pytest.mark.parametrize(
    ("status", "expected", "path", "query"),
    [
        (200, "apiVersions", "/metadata/versions", {}),
        (200, "vmId", "/metadata/instance", {"api-version": "2021-02-01"}),
        (200, "emulated", "/metadata/instance/compute/location", {"api-version": "2021-02-01", "format": "text"}),
        (200, "Events", "/metadata/scheduledevents", {"api-version": "2020-09-01"}),
        (200, "publicIpAddresses", "/metadata/loadbalancer", {"api-version": "2020-09-01"}),
        (400, "newest-versions", "/metadata/instance", {}),
        (400, "format=text", "/metadata/instance/compute/location", {"api-version": "2021-02-01"}),
        (404, "Not found", "/metadata/instance/compute/nothing", {"api-version": "2021-02-01"}),
        (404, "Not found", "/metadata/instance/compute/location/deeper", {"api-version": "2021-02-01"}),
        (404, "Not found", "/metadata/attested", {}),
        (404, "Not found", "/other", {}),
    ],
)
def test_other_metadata(
    status: int, expected: str, path: str, query: dict[str, str], ask: Callable[..., httpx2.Response]
) -> None:
    """What the pass-through of a proxy can be tried with."""
    answer = ask(path, **query)

    assert status == answer.status_code, answer.text
    assert expected in answer.text


def test_only_get_is_allowed(emulator: EmulatorClient) -> None:
    """A POST is a 405 that says so, a body too large a 413."""
    with httpx2.Client(base_url=emulator.imds, trust_env=False, headers={"Metadata": "true"}) as client:
        refused = client.post(TOKEN, content=b"x")
        assert (405, "GET") == (refused.status_code, refused.headers["allow"])
        assert 413 == client.post(TOKEN, content=b"x" * ((1 << 20) + 1)).status_code


def test_azure_identity_gets_a_token(emulator: EmulatorClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """ManagedIdentityCredential, told only where the metadata service is."""
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", emulator.imds)
    with ManagedIdentityCredential(client_id=CATALOGUE) as credential:
        token = credential.get_token("https://vault.azure.net/.default").token
    assert CATALOGUE == jwt.decode(token, options={"verify_signature": False})["appid"]
    with ManagedIdentityCredential() as credential, pytest.raises(ClientAuthenticationError, match="Multiple user"):
        credential.get_token("https://vault.azure.net/.default")


def test_msal_gets_a_token(emulator: EmulatorClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Msal's ManagedIdentityClient by resource id."""
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", emulator.imds)
    identity = msal.UserAssignedManagedIdentity(resource_id=resource_id("catalogue"))
    with requests.Session() as session:
        result: dict[str, Any] = msal.ManagedIdentityClient(identity, http_client=session).acquire_token_for_client(
            resource="https://storage.azure.com"
        )
    assert "access_token" in result, json.dumps(result)
