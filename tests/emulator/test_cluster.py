"""The emulated cluster: its issuer's documents, its tokens and its TokenRequest API, as an API server's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jwt
import msgspec
import pytest

from azwi.emulator.issuer import BoundPod, TokenOrder, discovery_document, jwks, mint_token, token_claims
from azwi.emulator.token_request import Refusal, parse_token_request

if TYPE_CHECKING:
    import httpx2

    from azwi.emulator.keys import SigningKey
    from azwi.emulator.server import Addresses

ISSUER = "https://localhost:1/cluster"
TOKEN_PATH = "cluster/api/v1/namespaces/shop/serviceaccounts/orders/token"  # noqa: S105


def test_tokens_are_shaped_like_a_kubelets() -> None:
    """A bound token has the claims of a projected one, down to node and Pod."""
    order = TokenOrder("shop", "orders", ("api://x",), 3600, BoundPod("orders-0", "pod-uid"))
    claims: dict[str, Any] = token_claims(ISSUER, order, 1000.9, "token-id")
    bound = claims.pop("kubernetes.io")
    assert {
        "aud": ["api://x"],
        "exp": 4600,
        "iat": 1000,
        "iss": ISSUER,
        "jti": "token-id",
        "nbf": 1000,
        "sub": "system:serviceaccount:shop:orders",
    } == claims
    assert ("shop", "orders") == (bound["namespace"], bound["serviceaccount"]["name"])
    assert {"name": "orders-0", "uid": "pod-uid"} == bound["pod"]
    assert {"name", "uid"} == bound["node"].keys()


def test_tokens_without_pod_name_none() -> None:
    """A token asked for without a Pod is bound to the service account only."""
    claims: dict[str, Any] = token_claims(ISSUER, TokenOrder("shop", "orders", ("a",), 600), 0, "id")
    assert {"namespace", "serviceaccount"} == claims["kubernetes.io"].keys()


def test_tokens_verify_with_the_published_keys(issuer_key: SigningKey) -> None:
    """The JWKS verifies a token, whose header has algorithm and key only, as kube-apiserver's."""
    claims = token_claims(ISSUER, TokenOrder("shop", "orders", ("a",), 600), 2e9, "id")
    token = mint_token(issuer_key, claims)
    header = jwt.get_unverified_header(token)
    assert {"alg": "RS256", "kid": issuer_key.kid} == header
    keys = jwt.PyJWKSet.from_dict(jwks(issuer_key))
    decoded = jwt.decode(
        token,
        keys[header["kid"]].key,
        algorithms=["RS256"],
        audience="a",
        options={"verify_nbf": False, "verify_iat": False},
    )
    assert claims == decoded


def test_the_discovery_document_is_an_api_servers() -> None:
    """The five fields of kube-apiserver, no more."""
    assert {
        "issuer": ISSUER,
        "jwks_uri": ISSUER + "/openid/v1/jwks",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    } == discovery_document(ISSUER)


@pytest.mark.parametrize(
    ("code", "namespace", "account", "document"),
    [
        (404, "Shop", "orders", {}),
        (404, "shop", "-", {}),
        (404, "a" * 64, "orders", {}),
        (400, "shop", "orders", []),
        (400, "shop", "orders", {"kind": "Pod"}),
        (400, "shop", "orders", {"apiVersion": "v1"}),
        (400, "shop", "orders", {"spec": {"audiences": "a"}}),
        (400, "shop", "orders", {"spec": {"expirationSeconds": "3600"}}),
        (400, "shop", "orders", {"spec": {"boundObjectRef": {"kind": "Secret", "name": "s"}}}),
        (422, "shop", "orders", {"spec": {"expirationSeconds": 599}}),
        (422, "shop", "orders", {"spec": {"expirationSeconds": (1 << 32) + 1}}),
    ],
)
def test_token_requests_are_checked(code: int, namespace: str, account: str, document: object) -> None:
    """What an API server refuses is refused with its code."""
    result = parse_token_request(namespace, account, msgspec.json.encode(document), ISSUER)
    assert isinstance(result, Refusal)
    assert code == result.code


def test_token_requests_have_the_api_servers_defaults() -> None:
    """No body asks for an hour and the API server's own audience; unknown fields do not matter."""
    expected = TokenOrder("shop", "orders", (ISSUER,), 3600)
    assert expected == parse_token_request("shop", "orders", b"", ISSUER)
    assert expected == parse_token_request("shop", "orders", b'{"metadata": {}, "spec": {"x": 1}}', ISSUER)


def test_nested_token_requests_are_refused() -> None:
    """A document nested beyond all measure is a bad request, not a crash."""
    result = parse_token_request("shop", "orders", b'{"a":' + b"[" * 100_000, ISSUER)
    assert isinstance(result, Refusal)
    assert 400 == result.code


def test_the_token_request_api_mints(emulator: Addresses, http: httpx2.Client) -> None:
    """The answer is the request with its status filled in, and the token verifies by the cluster's documents."""
    spec = {"audiences": ["api://x"], "expirationSeconds": 600, "boundObjectRef": {"kind": "Pod", "name": "orders-0"}}
    answer = http.post(
        TOKEN_PATH, json={"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    )
    body = answer.json()
    assert (201, "TokenRequest", 600) == (answer.status_code, body["kind"], body["spec"]["expirationSeconds"])
    discovery = http.get(emulator.issuer + "/.well-known/openid-configuration").json()
    keys = jwt.PyJWKSet.from_dict(http.get(discovery["jwks_uri"]).json())
    token = body["status"]["token"]
    key = keys[jwt.get_unverified_header(token)["kid"]].key
    claims = jwt.decode(token, key, algorithms=["RS256"], audience="api://x", issuer=emulator.issuer)
    assert "orders-0" == claims["kubernetes.io"]["pod"]["name"]
    assert body["spec"]["boundObjectRef"]["uid"] == claims["kubernetes.io"]["pod"]["uid"]


def test_the_token_request_api_refuses_with_a_status(http: httpx2.Client) -> None:
    """Refusals are Status documents, as kubectl reads them."""
    answer = http.post(TOKEN_PATH, json={"spec": {"expirationSeconds": 1}})
    assert (422, "Status", "Invalid") == (answer.status_code, answer.json()["kind"], answer.json()["reason"])
    assert (405, "Status") == (http.get(TOKEN_PATH).status_code, http.get(TOKEN_PATH).json()["kind"])
