"""Managed identities, versions of tokens, service accounts: what the state can say beside applications."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jwt
import pytest

from azwi.emulator.state import parse_state
from azwi.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx2

    Mint = Callable[..., str]
    Post = Callable[..., httpx2.Response]

TENANT = "11111111-1111-1111-1111-111111111111"
ORDERS = "22222222-2222-2222-2222-222222222222"
CATALOGUE = "55555555-5555-5555-5555-555555555555"
OFF = "77777777-7777-7777-7777-777777777777"
MODERN = "88888888-8888-8888-8888-888888888888"
STOCK = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa"


def verified(http: httpx2.Client, token: str, version: str, audience: str) -> dict[str, Any]:
    """The claims, verified by PyJWT with what the version's own documents publish."""
    configuration = http.get(f"{TENANT}{version}/.well-known/openid-configuration").json()
    keys = jwt.PyJWKSet.from_dict(http.get(configuration["jwks_uri"]).json())
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims: dict[str, Any] = jwt.decode(
        token, key.key, algorithms=["RS256"], audience=audience, issuer=configuration["issuer"]
    )
    return claims


def test_a_managed_identity_exchanges_as_an_application_does(http: httpx2.Client, mint: Mint, post: Post) -> None:
    """The same grant, and the token names the Azure resource that the identity is."""
    answer = post(mint(), client_id=CATALOGUE)

    claims = verified(http, answer.json()["access_token"], "", "https://vault.azure.net")
    assert CATALOGUE == claims["appid"]
    assert claims["xms_mirid"].endswith("/userAssignedIdentities/catalogue")


@pytest.mark.parametrize(
    ("resource", "audience"), [("api://stock", STOCK), ("API://Stock/", STOCK), (f"api://{MODERN}", MODERN)]
)
def test_a_resource_of_version_2_gets_tokens_of_version_2(
    resource: str, audience: str, http: httpx2.Client, mint: Mint, post: Post
) -> None:
    """Audience is the resource's client id, issuer the version's own, and no claim of version 1 is there."""
    answer = post(mint(), client_id=ORDERS, scope=f"{resource}/.default")

    claims = verified(http, answer.json()["access_token"], "/v2.0", audience)
    assert ("2.0", ORDERS, "2") == (claims["ver"], claims["azp"], claims["azpacr"])
    assert not {"appid", "appidacr", "idp"} & claims.keys()


def test_a_disabled_application_is_refused(mint: Mint, post: Post) -> None:
    """An application that somebody switched off has its own code."""
    body = post(mint(), client_id=OFF).json()

    assert [7000112] == body["error_codes"]
    assert "is disabled" in body["error_description"]


def managed(**changes: object) -> dict[str, Any]:
    """A state with one managed identity."""
    identity = {"name": "catalogue", "clientId": CATALOGUE} | changes
    return {"tenants": [{"id": TENANT, "managedIdentities": [identity]}]}


def listed(**changes: object) -> dict[str, Any]:
    """The same with one resource."""
    return managed() | {"resources": [{"identifier": "api://a"} | changes]}


@pytest.mark.parametrize(
    ("expected", "document"),
    [
        ("managedIdentities[0].name: 'a b' must be", managed(name="a b")),
        ("managedIdentities[0].clientId: 'x' is not a GUID", managed(clientId="x")),
        ("managedIdentities[0].resourceId: '/subscriptions/1' must look like", managed(resourceId="/subscriptions/1")),
        (
            "applications and managedIdentities: the clientId",
            {
                "tenants": [
                    {
                        "id": TENANT,
                        "applications": [{"clientId": CATALOGUE}],
                        "managedIdentities": [{"name": "catalogue", "clientId": CATALOGUE}],
                    }
                ]
            },
        ),
        ("accessTokenVersion: invalid enum value 3", listed(accessTokenVersion=3)),
        ("resources[0].clientId: '' is not a GUID", listed(accessTokenVersion=2)),
        ("resources[0].clientId: 'x' is not a GUID", listed(clientId="x")),
        ("resources[0]: 'a b' is not", listed(identifier="a b")),
        ("serviceAccounts[0]: namespace and name", managed() | {"serviceAccounts": [{"namespace": "", "name": "x"}]}),
        ("maxTokenExpirationSeconds: must not", managed() | {"cluster": {"maxTokenExpirationSeconds": -1}}),
        ("object contains unknown field `x`", managed() | {"cluster": {"x": 1}}),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_field(expected: str, document: dict[str, Any]) -> None:
    """Every new field is checked as the old ones are."""
    with pytest.raises(ManifestError) as raised:
        parse_state(document, "state.yaml")

    assert expected in str(raised.value).replace("`$.tenants[0].", "`")


def test_a_document_inside_itself_is_refused() -> None:
    """An anchor that holds its own alias ends in one sentence, not in a recursion."""
    inside: dict[str, Any] = managed()
    inside["tenants"][0]["managedIdentities"] = inside["tenants"]
    with pytest.raises(ManifestError, match=r"state.yaml"):
        parse_state(inside, "state.yaml")
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ManifestError, match=r"state.yaml"):
        parse_state({"tenants": loop}, "state.yaml")
