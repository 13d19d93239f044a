"""The token endpoint over TLS: assertions that must not pass, issuers that do not answer, hostile requests."""

from __future__ import annotations

import hmac
import json
import time
from typing import TYPE_CHECKING

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from azwi.emulator.keys import SigningKey, base64url, generate_cluster_key, public_jwk

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx2

    from azwi.emulator.server import Addresses

    Mint = Callable[..., str]
    Post = Callable[..., httpx2.Response]

TENANT = "11111111-1111-1111-1111-111111111111"
ORDERS = "22222222-2222-2222-2222-222222222222"
TOKEN_PATH = f"{TENANT}/oauth2/v2.0/token"


def test_a_token_of_another_issuer_is_verified_with_its_published_keys(forge: Mint, post: Post) -> None:
    """An issuer that is no emulator is asked for its documents, and its token is exchanged."""
    answer = post(forge())
    assert (200, "Bearer") == (answer.status_code, answer.json().get("token_type"))


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        (700024, {"exp": time.time() - 3600}),
        (700024, {"nbf": time.time() + 3600}),
        (700024, {"exp": 1e300, "nbf": 1e300}),
        (700211, {"iss": "https://elsewhere.example"}),
        (700212, {"aud": ["api://other"]}),
        (700213, {"sub": "system:serviceaccount:shop:other"}),
        (7002138, {"sub": "system:serviceaccount:shop:Orders"}),
        (50027, {"exp": "soon"}),
        (50027, {"sub": None}),
        (50027, {"aud": 7}),
    ],
)
def test_claims_that_do_not_fit_are_refused(code: int, changes: dict[str, object], forge: Mint, post: Post) -> None:
    """Each claim of a well-signed assertion that is wrong has its own code."""
    assert [code] == post(forge(**changes)).json()["error_codes"]


def test_a_trailing_slash_makes_another_issuer(forge: Mint, post: Post) -> None:
    """Issuers are compared exactly."""
    answer = post(forge("good/")).json()
    assert [700211] == answer["error_codes"]
    assert "/good/'" in answer["error_description"]


def test_a_tampered_assertion_is_refused(forge: Mint, post: Post) -> None:
    """Claims under somebody else's signature do not pass."""
    header, _, signature = forge(sub="system:serviceaccount:shop:other").split(".")
    payload = forge().split(".")[1]
    assert [700027] == post(f"{header}.{payload}.{signature}").json()["error_codes"]


def test_a_key_that_is_not_published_is_refused(forge: Mint, post: Post) -> None:
    """An assertion of a key the issuer does not publish is refused with the key's name."""
    stranger = generate_cluster_key()
    answer = post(forge(key=stranger)).json()
    assert [7000272] == answer["error_codes"]
    assert stranger.kid in answer["error_description"]


def test_a_stolen_key_name_is_refused(forge: Mint, post: Post, issuer_key: SigningKey) -> None:
    """Another key under the name of a published one does not pass."""
    impostor = SigningKey(generate_cluster_key().private, issuer_key.kid)
    assert [700027] == post(forge(key=impostor)).json()["error_codes"]


def test_unsigned_and_symmetric_assertions_are_refused(forge: Mint, post: Post, issuer_key: SigningKey) -> None:
    """Neither `none` nor HS256 with the public key as secret passes."""
    payload = forge().split(".")[1]
    public = issuer_key.private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )

    def compact(algorithm: str) -> str:
        return base64url(json.dumps({"alg": algorithm, "kid": issuer_key.kid}).encode()) + "." + payload

    symmetric = compact("HS256")
    mac = base64url(hmac.digest(public, symmetric.encode(), "sha256"))
    assert [5002738] == post(compact("none") + ".").json()["error_codes"]
    assert [5002738] == post(f"{symmetric}.{mac}").json()["error_codes"]


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (501661, "impostor"),
        (501661, "plain"),
        (501661, "garbage"),
        (501661, "huge"),
        (501661, "moved"),
        (501661, "missing"),
        (7000272, "keyless"),
    ],
)
def test_issuers_that_publish_nothing_usable_are_refused(code: int, name: str, forge: Mint, post: Post) -> None:
    """Wrong, plain, oversized, redirected or missing documents never verify an assertion."""
    assert [code] == post(forge(name)).json()["error_codes"]


def test_an_issuer_that_cannot_be_reached_is_refused(forge: Mint, post: Post) -> None:
    """Nobody listening at the issuer's address has the code that Microsoft's guide gives it."""
    answer = post(forge(iss="https://localhost:1"))
    assert (400, [90061]) == (answer.status_code, answer.json()["error_codes"])


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        (900144, {"grant_type": None}),
        (900144, {"client_id": ""}),
        (900144, {"scope": None}),
        (900144, {"client_assertion_type": None}),
        (9002313, {"client_assertion_type": "urn:other"}),
        (70003, {"grant_type": "password"}),
        (7000218, {"client_assertion": None}),
        (7000215, {"client_assertion": None, "client_secret": "secret"}),
        (70011, {"scope": "https://vault.azure.net/.default https://graph.microsoft.com/.default"}),
        (90002, {"tenant": "99999999-9999-9999-9999-999999999999"}),
        (90002, {"tenant": "fabrikam.example"}),
        (9001023, {"tenant": "common"}),
        (50059, {"tenant": "organizations"}),
    ],
)
def test_wrong_parameters_are_refused(code: int, changes: dict[str, str | None], forge: Mint, post: Post) -> None:
    """Each parameter that is missing or wrong has its own code."""
    assert [code] == post(forge(), **changes).json()["error_codes"]


def test_scopes_that_msal_adds_are_tolerated(forge: Mint, post: Post) -> None:
    """The OpenID scopes that MSAL for Go sends do not matter."""
    scope = "https://vault.azure.net//.default openid offline_access profile"
    token = post(forge(), scope=scope).json()["access_token"]
    assert jwt.decode(token, options={"verify_signature": False})["aud"] == "https://vault.azure.net/"


def test_a_refusal_looks_like_one_of_entra(http: httpx2.Client) -> None:
    """Every field is there, ids agree with headers, and the time is Entra's format."""
    asked = "0f8fad5b-d9cb-469f-a165-70867728950e"
    headers = {"client-request-id": asked, "return-client-request-id": "true"}
    answer = http.post(TOKEN_PATH, data={"grant_type": "client_credentials"}, headers=headers)
    body = answer.json()
    assert (
        body["error_description"]
        == "AADSTS900144: The request body must contain the following parameter: 'client_id'. "
        f"Trace ID: {body['trace_id']} Correlation ID: {asked} Timestamp: {body['timestamp']}"
    )
    assert (asked, asked) == (body["correlation_id"], answer.headers["client-request-id"])
    assert answer.headers["x-ms-request-id"] == body["trace_id"]
    assert body["error_uri"] == "https://login.microsoftonline.com/error?code=900144"
    assert body["timestamp"] == time.strftime(
        "%Y-%m-%d %H:%M:%SZ", time.strptime(body["timestamp"], "%Y-%m-%d %H:%M:%SZ")
    )


def test_a_request_id_that_is_no_guid_is_not_echoed(http: httpx2.Client) -> None:
    """What comes back in a header is a GUID or not there."""
    headers = {"client-request-id": "x\ty", "return-client-request-id": "true"}
    answer = http.post(TOKEN_PATH, headers=headers)
    assert "client-request-id" not in answer.headers


@pytest.mark.parametrize(
    ("code", "content_type", "body"),
    [
        (900144, "application/json", b'{"grant_type": "client_credentials"}'),
        (900144, "application/x-www-form-urlencoded", b""),
        (900144, "multipart/form-data; boundary=x", b"--x--"),
        (9002313, "application/x-www-form-urlencoded", b"grant_type=a&grant_type=b"),
        (9002313, "application/x-www-form-urlencoded", b"grant_type=\xff\xfe"),
        (9002313, "application/x-www-form-urlencoded", b"grant_type=%ff"),
        (9002313, "application/x-www-form-urlencoded", b"a=b&" * 2000),
    ],
)
def test_bodies_that_are_no_form_are_refused(code: int, content_type: str, body: bytes, http: httpx2.Client) -> None:
    """Whatever is posted, the answer is a refusal in Entra's JSON."""
    answer = http.post(TOKEN_PATH, content=body, headers={"content-type": content_type})
    assert (400, [code]) == (answer.status_code, answer.json()["error_codes"])


@pytest.mark.parametrize("depth", [10, 100_000])
def test_nested_assertions_are_refused(depth: int, post: Post) -> None:
    """An assertion nested beyond all measure is malformed, not a crash."""
    nested = jwt.utils.base64url_encode(b"[" * depth).decode()
    assert [50027] == post(f"{nested}.{nested}.x").json()["error_codes"]


def test_long_values_are_echoed_in_part(post: Post, forge: Mint) -> None:
    """A refusal does not grow with the request."""
    answer = post(forge(), client_id="x" * 100_000)
    assert [700016] == answer.json()["error_codes"]
    assert 4096 > len(answer.content)


def test_a_huge_body_is_refused(http: httpx2.Client) -> None:
    """A body beyond a megabyte is not read to its end."""
    answer = http.post(TOKEN_PATH, content=b"x" * (2 << 20))
    assert (413, "request_too_large") == (answer.status_code, answer.json()["error"])


def test_only_posts_are_accepted(http: httpx2.Client) -> None:
    """A GET of the token endpoint is named as such."""
    assert [900561] == http.get(TOKEN_PATH).json()["error_codes"]


def test_nothing_secret_is_logged_or_remembered(
    mint: Mint, post: Post, http: httpx2.Client, caplog: pytest.LogCaptureFixture
) -> None:
    """Log lines and the journal name outcome and subject, never an assertion or a token."""
    caplog.set_level("DEBUG")
    assertion = mint()
    granted = post(assertion, client_id=ORDERS).json()["access_token"]
    http.get(f"cluster/{assertion}")
    fields = [getattr(record, "fields", {}) for record in caplog.records if record.name == "emulator"]
    assert "system:serviceaccount:shop:orders" == fields[-1]["subject"]
    assert "granted" == fields[-1]["outcome"]
    own = [record for record in caplog.records if not record.name.startswith("http")]  # the test's client logs URLs
    logged = repr([vars(record) for record in own])
    journal = http.get("emulator/journal").text
    assert '"path":"/cluster/[redacted]"' in journal
    for secret in (assertion, granted):
        assert secret not in journal
        assert secret not in logged


def test_published_keys_have_no_private_part(emulator: Addresses, http: httpx2.Client) -> None:
    """Neither key set holds more than modulus, exponent, names and certificate."""
    entra = http.get(f"{TENANT}/discovery/v2.0/keys").json()["keys"][0]
    cluster = http.get(f"{emulator.issuer}/openid/v1/jwks").json()["keys"][0]
    assert {"kty", "use", "kid", "x5t", "n", "e", "x5c", "issuer"} == entra.keys()
    assert public_jwk(generate_cluster_key()).keys() == cluster.keys()
