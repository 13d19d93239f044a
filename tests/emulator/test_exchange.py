"""What the token endpoint decides, rule by rule, without a server."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from azwi.emulator import exchange
from azwi.emulator.assertion import UnverifiedAssertion, read_unverified
from azwi.emulator.directory import Application, Directory, FederatedCredential, Resource, Tenant
from azwi.emulator.faults import Fault
from azwi.emulator.keys import SigningKey, base64url, read_jwks, sign

NOW = 1_800_000_000.0
CLIENT = "22222222-2222-2222-2222-222222222222"
ISSUER = "https://issuer.example/"
SUBJECT = "system:serviceaccount:shop:orders"
AUDIENCE = "api://AzureADTokenExchange"
PROD = FederatedCredential("prod", ISSUER, SUBJECT, AUDIENCE)
OTHER = FederatedCredential("other", "https://other.example", "system:serviceaccount:shop:billing", "api://other")


def _application(*credentials: FederatedCredential) -> Application:
    return Application(CLIENT, "orders", "55555555-5555-5555-5555-555555555555", credentials)


def _tenant(*credentials: FederatedCredential) -> Tenant:
    return Tenant("11111111-1111-1111-1111-111111111111", "", (_application(*credentials),))


def _assertion(**changes: object) -> UnverifiedAssertion:
    claims = {"iss": ISSUER, "sub": SUBJECT, "aud": [AUDIENCE], "exp": NOW + 600, "nbf": NOW} | changes
    header = {"alg": "RS256", "kid": "k"}
    compact = ".".join(base64url(msgspec.json.encode(part)) for part in (header, claims)) + ".c2ln"
    found = read_unverified(compact)
    assert found is not None
    return found


def _code(result: object) -> int:
    assert isinstance(result, Fault), result
    return result.code


@pytest.mark.parametrize(
    ("code", "credentials", "changes"),
    [
        (70025, (), {}),
        (700211, (PROD,), {"iss": "https://issuer.example"}),
        (700211, (PROD,), {"iss": "https://ISSUER.example/"}),
        (700212, (PROD,), {"aud": "api://azureadtokenexchange"}),
        (700212, (PROD,), {"aud": []}),
        (700213, (PROD,), {"sub": SUBJECT + " "}),
        (7002138, (PROD,), {"sub": SUBJECT.upper()}),
        (700211, (PROD,), {"iss": "https://nobody.example", "sub": "nobody", "aud": "nobody"}),
        (700213, (PROD,), {"sub": "nobody", "aud": "nobody"}),
        (70021, (PROD, OTHER), {"sub": OTHER.subject}),
        (70021, (PROD, OTHER), {"aud": OTHER.audience}),
    ],
)
def test_the_value_that_no_credential_has_is_named(
    code: int, credentials: tuple[FederatedCredential, ...], changes: dict[str, object]
) -> None:
    """Issuer, subject and audience are compared exactly, and the refusal says which of them nobody has."""
    assert code == _code(exchange.match_credential(_application(*credentials), _assertion(**changes)))


def test_one_of_several_audiences_is_enough() -> None:
    """An assertion for several audiences matches the credential of one of them."""
    assert PROD == exchange.match_credential(_application(OTHER, PROD), _assertion(aud=["api://x", AUDIENCE]))


@pytest.mark.parametrize(
    ("expected", "scope"),
    [
        ("https://vault.azure.net", "https://vault.azure.net/.default"),
        ("https://vault.azure.net/", "https://vault.azure.net//.default"),
        ("https://shop.blob.core.windows.net", "https://shop.blob.core.windows.net/.default"),
        ("api://listed", "api://listed/.default openid offline_access profile"),
        (CLIENT, f"{CLIENT}/.default"),
        (f"api://{CLIENT}", f"api://{CLIENT}/.default"),
        (1002012, "openid"),
        (1002012, "/.default"),
        (1002012, "https://vault.azure.net/user_impersonation"),
        (70011, "https://vault.azure.net/.default https://storage.azure.com/.default"),
        (70011, 'https://vault.azure.net/"/.default'),
        (70011, "https://vault.azure.net/.default\nx/.default"),
        (500011, "https://shop.vault.azure.net/.default"),
    ],
)
def test_scopes_name_one_resource(expected: str | int, scope: str) -> None:
    """A scope is `<resource>/.default` of a resource the directory knows; the resource stays spelt as asked."""
    assertion = _assertion().compact
    form = {
        "grant_type": "client_credentials",
        "client_id": CLIENT.upper(),
        "client_assertion_type": exchange.ASSERTION_TYPE,
        "client_assertion": assertion,
        "scope": scope,
    }
    tenant = _tenant(PROD)
    result = exchange.examine(form, tenant, Directory((tenant,), {"api://listed": Resource()}), 0.0)
    assert not isinstance(result, exchange.Grant)
    assert expected == (result.code if isinstance(result, Fault) else result.grant.audience)


@pytest.mark.parametrize(
    ("code", "header", "claims"),
    [
        (50027, b"{}", b"{}"),
        (50027, b'{"alg": "RS256", "kid": "k"}', b'{"iss": "i", "sub": "s", "aud": "a"}'),
        (50027, b'{"alg": "RS256", "kid": "k"}', b'{"iss": "i", "sub": "s", "aud": "a", "exp": 1e999}'),
        (50027, b'{"alg": "RS256", "kid": "k", "typ": "at+jwt"}', b'{"iss": "i", "sub": "s", "aud": "a", "exp": 1}'),
        (50027, b"\xff", b"\xfe"),
        (5002723, b'{"alg": "RS256"}', b'{"iss": "i", "sub": "s", "aud": "a", "exp": 1}'),
        (5002738, b'{"alg": "none", "kid": "k"}', b'{"iss": "i", "sub": "s", "aud": "a", "exp": 1}'),
        (5002738, b'{"alg": "ES256", "kid": "k"}', b'{"iss": "i", "sub": "s", "aud": "a", "exp": 1}'),
    ],
)
def test_unreadable_assertions_are_refused(code: int, header: bytes, claims: bytes) -> None:
    """An assertion without the claims, the key name or an algorithm that can be checked goes no further."""
    form = {
        "grant_type": "client_credentials",
        "client_id": CLIENT,
        "client_assertion_type": exchange.ASSERTION_TYPE,
        "client_assertion": f"{base64url(header)}.{base64url(claims)}.c2ln",
        "scope": "https://vault.azure.net/.default",
    }
    tenant = _tenant(PROD)
    assert code == _code(exchange.examine(form, tenant, Directory((tenant,)), 0.0))


@pytest.mark.parametrize("compact", ["", "..", "a.b", "a.b.c.d", "é.é.é", "a b.c d.e f", "e30.e30.e30", "é" * 3 + ".."])
def test_what_is_no_jwt_is_unreadable(compact: str) -> None:
    """Garbage is one answer, not an exception."""
    assert read_unverified(compact) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["iss", "sub", "aud", "exp"]), inner),
    max_leaves=8,
)


@given(header=JSON, payload=JSON, signature=st.text(max_size=8))
def test_no_assertion_is_an_exception(header: object, payload: object, signature: str) -> None:
    """Whatever stands in an assertion, it is readable or it is not."""
    parts = [base64url(json.dumps(part).encode()) for part in (header, payload)]
    assert isinstance(read_unverified(".".join([*parts, signature])), UnverifiedAssertion | None)


@given(body=st.binary(max_size=200))
def test_no_form_is_an_exception(body: bytes) -> None:
    """Whatever is posted as a form, it has parameters or is refused."""
    form = exchange.read_form(exchange.FORM, body)
    tenant = _tenant(PROD)
    result = form if isinstance(form, Fault) else exchange.examine(form, tenant, Directory((tenant,)), 0.0)
    assert isinstance(result, Fault)


@pytest.mark.parametrize(
    ("code", "changes", "now"),
    [
        (None, {}, NOW),
        (None, {}, NOW - 60),
        (None, {}, NOW + 660),
        (700024, {}, NOW - 61),
        (700024, {}, NOW + 661),
        (None, {"nbf": 0}, 60),
    ],
)
def test_times_are_checked_with_a_minute_of_skew(
    code: int | None, changes: dict[str, object], now: float, issuer_key: SigningKey
) -> None:
    """An assertion counts from a minute before `nbf` to a minute after `exp`."""
    claims = {"iss": ISSUER, "sub": SUBJECT, "aud": AUDIENCE, "nbf": NOW, "exp": NOW + 600} | changes
    assertion = read_unverified(sign(issuer_key, claims, {"kid": issuer_key.kid}))
    assert assertion is not None
    result = exchange.verify(assertion, {issuer_key.kid: issuer_key.private.public_key()}, now)
    assert code == (result and result.code)


def test_times_are_told_as_entra_tells_them(issuer_key: SigningKey) -> None:
    """AADSTS700024 gives now, start and end to a tenth of a microsecond; an assertion without start began in 1970."""
    claims = {"iss": ISSUER, "sub": SUBJECT, "aud": AUDIENCE, "exp": NOW}
    assertion = read_unverified(sign(issuer_key, claims, {"kid": issuer_key.kid}))
    assert assertion is not None
    result = exchange.verify(assertion, {issuer_key.kid: issuer_key.private.public_key()}, NOW + 100.25)
    assert result is not None
    assert (
        "Current time: 2027-01-15T08:01:40.2500000Z, assertion valid from 1970-01-01T00:00:00.0000000Z, expiry time of "
        "assertion 2027-01-15T08:00:00.0000000Z."
    ) in result.text


def test_forms_are_read_once_each() -> None:
    """A form is read with its blank values; a parameter that comes twice makes it malformed."""
    assert {"a": "1 2", "b": ""} == exchange.read_form(exchange.FORM + "; charset=utf-8", b"a=1+2&b=")
    assert 9002313 == _code(exchange.read_form(exchange.FORM, urlencode([("a", "1"), ("a", "1")]).encode()))
    assert {} == exchange.read_form("text/plain", b"a=1")


@pytest.mark.parametrize(
    ("document", "kids"),
    [
        (b'{"keys": []}', set()),
        (b'{"keys": [{"kty": "EC", "kid": "a"}]}', set()),
        (b'{"keys": [{"kty": "RSA", "kid": "a", "n": "!", "e": "AQAB"}]}', set()),
        (b'{"keys": [{"kty": "RSA", "kid": "a", "n": "AQAB", "e": "AQAB", "use": "enc"}]}', set()),
    ],
)
def test_unusable_keys_are_left_out(document: bytes, kids: set[str]) -> None:
    """A key set may hold keys that are of no use here."""
    assert kids == set(read_jwks(document))


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b'{"keys": 1}', b"[" * 100_000])
def test_what_is_no_key_set_is_an_error(document: bytes) -> None:
    """A document that is no JWKS is told from one without keys."""
    with pytest.raises(ValueError, match="not a JWKS"):
        read_jwks(document)
