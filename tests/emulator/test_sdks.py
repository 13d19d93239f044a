"""Microsoft's own SDKs against the emulator, over TLS: they get tokens, and they understand its refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jwt
import msal
import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import WorkloadIdentityCredential

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import httpx2

    from azwi.emulator.client import EmulatorClient

    Mint = Callable[..., str]

TENANT = "11111111-1111-1111-1111-111111111111"
ORDERS = "22222222-2222-2222-2222-222222222222"
BARE = "44444444-4444-4444-4444-444444444444"
UNKNOWN = "99999999-9999-9999-9999-999999999999"
VAULT = "https://vault.azure.net/.default"


@pytest.fixture
def session(emulator: EmulatorClient) -> Iterator[requests.Session]:
    """MSAL's transport, closed after the test."""
    with requests.Session() as session:
        session.trust_env = False  # else REQUESTS_CA_BUNDLE wins over `verify`
        session.verify = str(emulator.ca_file)
        yield session


@pytest.fixture
def ask_msal(emulator: EmulatorClient, session: requests.Session) -> Callable[..., dict[str, object]]:
    """One token request by a new MSAL application."""

    def asked(assertion: str, client_id: str = ORDERS, scope: str = VAULT, tenant: str = TENANT) -> dict[str, object]:
        app = msal.ConfidentialClientApplication(
            client_id,
            authority=emulator.authority + tenant,
            client_credential={"client_assertion": lambda: assertion},
            instance_discovery=False,
            http_client=session,
        )
        result: dict[str, object] = app.acquire_token_for_client([scope])
        return result

    return asked


def _verify(http: httpx2.Client, token: str, configuration_url: str, audience: str) -> dict[str, object]:
    """The claims, verified with nothing but what the emulator publishes."""
    configuration = http.get(configuration_url).json()
    keys = jwt.PyJWKSet.from_dict(http.get(configuration["jwks_uri"]).json())
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims: dict[str, object] = jwt.decode(
        token, key.key, algorithms=["RS256"], audience=audience, issuer=configuration["issuer"]
    )
    return claims


def test_workload_identity_credential_gets_a_verifiable_token(
    emulator: EmulatorClient, http: httpx2.Client, mint: Mint, tmp_path: Path
) -> None:
    """azure-identity exchanges a projected token file for an access token that the published keys verify."""
    token_file = tmp_path / "azure-identity-token"
    token_file.write_text(mint())
    with WorkloadIdentityCredential(
        tenant_id=TENANT,
        client_id=ORDERS,
        token_file_path=str(token_file),
        authority=emulator.authority.rstrip("/"),
        disable_instance_discovery=True,
        connection_verify=str(emulator.ca_file),
    ) as credential:
        token = credential.get_token(VAULT).token
    claims = _verify(http, token, f"{TENANT}/.well-known/openid-configuration", "https://vault.azure.net")
    assert ("app", ORDERS, "2", TENANT, "1.0") == tuple(claims[n] for n in ("idtyp", "appid", "appidacr", "tid", "ver"))
    assert claims["oid"] == claims["sub"]
    assert {"aud", "iss", "iat", "nbf", "exp", "aio", "idp", "rh", "uti"} <= claims.keys()


def test_workload_identity_credential_raises_with_the_code(
    emulator: EmulatorClient, mint: Mint, tmp_path: Path
) -> None:
    """azure-identity passes AADSTS code and text on to the program."""
    token_file = tmp_path / "azure-identity-token"
    token_file.write_text(mint(account="stranger"))
    with (
        WorkloadIdentityCredential(
            tenant_id=TENANT,
            client_id=ORDERS,
            token_file_path=str(token_file),
            authority=emulator.authority.rstrip("/"),
            disable_instance_discovery=True,
            connection_verify=str(emulator.ca_file),
        ) as credential,
        pytest.raises(ClientAuthenticationError, match=r"AADSTS700213: .*'system:serviceaccount:shop:stranger'"),
    ):
        credential.get_token(VAULT)


@pytest.mark.parametrize("tenant", [TENANT, "contoso.onmicrosoft.com", "CONTOSO.onmicrosoft.com"])
def test_msal_gets_a_token_by_guid_and_by_domain(
    tenant: str, ask_msal: Callable[..., dict[str, object]], mint: Mint
) -> None:
    """MSAL finds the tenant by either name and reads type and life of the token."""
    result = ask_msal(mint(), tenant=tenant)
    assert ("Bearer", 3599) == (result.get("token_type"), result.get("expires_in")), result.get("error_description")


@pytest.mark.parametrize(
    ("code", "error", "change"),
    [
        (700016, "unauthorized_client", {"client_id": UNKNOWN}),
        (70025, "invalid_client", {"client_id": BARE}),
        (500011, "invalid_resource", {"scope": "https://unheard.of/.default"}),
        (1002012, "invalid_scope", {"scope": "https://vault.azure.net/user_impersonation"}),
        (50027, "invalid_request", {"assertion": "garbage"}),
    ],
)
def test_msal_reads_refusals(
    code: int, error: str, change: dict[str, str], ask_msal: Callable[..., dict[str, object]], mint: Mint
) -> None:
    """MSAL finds error, codes and correlation id where it looks for them in Entra's answers."""
    result = ask_msal(**{"assertion": mint(), **change})
    assert (error, [code]) == (result["error"], result["error_codes"])
    assert str(result["error_description"]).startswith(f"AADSTS{code}: ")
    assert result["correlation_id"]


def test_msal_refuses_an_unknown_tenant(ask_msal: Callable[..., dict[str, object]], mint: Mint) -> None:
    """The metadata of an unknown tenant is an error that MSAL's tenant discovery understands."""
    with pytest.raises(ValueError, match="Unable to get authority configuration"):
        ask_msal(mint(), tenant=UNKNOWN)
