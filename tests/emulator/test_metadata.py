"""What Entra publishes: configuration, keys, instance discovery, and what the emulator says of itself."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

if TYPE_CHECKING:
    import httpx2

    from azwi.emulator.server import Addresses

TENANT = "11111111-1111-1111-1111-111111111111"


@pytest.mark.parametrize(
    ("name", "version", "issuer"),
    [
        (TENANT, "/v2.0", f"{TENANT}/v2.0"),
        ("contoso.onmicrosoft.com", "/v2.0", f"{TENANT}/v2.0"),
        (TENANT, "", f"{TENANT}/"),
        ("common", "/v2.0", "{tenantid}/v2.0"),
        ("organizations", "", "{tenantid}/"),
    ],
)
def test_configurations_name_the_tenant(
    name: str, version: str, issuer: str, emulator: Addresses, http: httpx2.Client
) -> None:
    """A tenant has one issuer by whatever name it is asked for; all addresses are the emulator's own."""
    document = http.get(f"{name}{version}/.well-known/openid-configuration").json()
    assert emulator.authority + issuer == document["issuer"]
    assert all(value.startswith(emulator.authority) for key, value in document.items() if key.endswith("_endpoint"))
    assert 200 == http.get(document["jwks_uri"]).status_code


@pytest.mark.parametrize("path", ["v2.0/.well-known/openid-configuration", "discovery/v2.0/keys"])
def test_unknown_tenants_have_no_documents(path: str, http: httpx2.Client) -> None:
    """The metadata of an unknown tenant is the refusal of Entra."""
    answer = http.get(f"fabrikam.example/{path}")
    assert (400, "invalid_tenant", [90002]) == (answer.status_code, *_parts(answer))


def _parts(answer: httpx2.Response) -> tuple[object, object]:
    body = answer.json()
    return body["error"], body["error_codes"]


def test_keys_carry_their_certificate(http: httpx2.Client) -> None:
    """`x5c` is the certificate of the key, and `kid` its thumbprint."""
    key = http.get(f"{TENANT}/discovery/v2.0/keys").json()["keys"][0]
    certificate = x509.load_der_x509_certificate(base64.b64decode(key["x5c"][0]))
    assert key["kid"] == key["x5t"]
    assert certificate.signature_hash_algorithm is not None


def test_the_emulator_vouches_for_itself(emulator: Addresses, http: httpx2.Client) -> None:
    """An SDK that asks about the emulator's own host is told where the tenant's configuration is."""
    asked = {"api-version": "1.1", "authorization_endpoint": f"{emulator.authority}{TENANT}/oauth2/v2.0/authorize"}
    document = http.get("common/discovery/instance", params=asked).json()
    assert 200 == http.get(document["tenant_discovery_endpoint"]).status_code
    host = emulator.authority.removeprefix("https://").rstrip("/")
    assert [{"preferred_network": host, "preferred_cache": host, "aliases": [host]}] == document["metadata"]


@pytest.mark.parametrize(
    ("code", "endpoint"),
    [
        (50049, "https://login.example/common/oauth2/v2.0/authorize"),
        (50050, ""),
        (50050, "http://localhost/common"),
        (50050, "https://localhost"),
        (50050, "https://[x/common"),
    ],
)
def test_other_instances_are_unknown(code: int, endpoint: str, http: httpx2.Client) -> None:
    """The emulator vouches for nobody else."""
    answer = http.get("common/discovery/instance", params={"authorization_endpoint": endpoint})
    assert [code] == answer.json()["error_codes"]


def test_the_root_says_what_this_is(emulator: Addresses, http: httpx2.Client) -> None:
    """Whoever comes by with a browser learns that this is no identity provider."""
    document = http.get("").json()
    assert "no identity provider" in document["notice"]
    assert emulator.issuer == document["issuer"]


@pytest.mark.parametrize("path", ["nothing", "cluster/api/v1/pods", "a/b/c/d/e/f"])
def test_other_paths_are_not_found(path: str, http: httpx2.Client) -> None:
    """What is not emulated is not there."""
    assert 404 == http.get(path).status_code


def test_documents_are_read_only(http: httpx2.Client) -> None:
    """A document cannot be written; the answer names the methods."""
    answer = http.put("emulator/journal", content=b"x")
    assert (405, "GET, HEAD") == (answer.status_code, answer.headers["allow"])


def test_heads_have_no_body(http: httpx2.Client) -> None:
    """HEAD is GET without its body."""
    answer = http.head("")
    assert (200, b"") == (answer.status_code, answer.content)
