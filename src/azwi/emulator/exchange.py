"""What the v2.0 token endpoint decides for client credentials with a JWT assertion (RFC 7523), without any I/O.

The steps, in the order of `azwi.emulator.app`:

1. `read_form`: bytes to parameters.
2. `examine`: parameters to a candidate: which application, resource and federated credential this is about. Nothing
   is verified yet; the candidate says whose keys are needed to do so.
3. `verify`: signature and times of the candidate's assertion, given those keys.
4. `access_token_claims` and `token_answer`: the access token's claims and the answer around the token.

Source: learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow, "Third case: Access token request
with a federated credential"; access-token-claims-reference for the claims.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

import jwt
from cryptography import x509

from azwi.emulator import faults
from azwi.emulator.assertion import UnverifiedAssertion, read_unverified
from azwi.emulator.expression import matches_subject
from azwi.emulator.faults import Fault
from azwi.emulator.keys import JsonObject, PublicKeys, base64url

if TYPE_CHECKING:
    from azwi.emulator.directory import Application, Directory, FederatedCredential, Resource, Tenant

FORM: Final = "application/x-www-form-urlencoded"
GRANT_TYPE: Final = "client_credentials"
ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"  # RFC 7523 section 2.2
ALGORITHMS: Final = ("RS256", "RS384", "RS512")
_CERTIFICATE_ALGORITHMS: Final = ("RS256", "PS256")  # Learn, "Microsoft identity platform application authentication"
CLOCK_SKEW: Final = 60  # seconds; small, so that an expired token is seen to be refused
LIFETIME: Final = 3600  # seconds
_BACKDATED: Final = 300  # seconds; Entra's tokens are valid from five minutes before they are issued

_MAX_PARAMETERS: Final = 100
_DEFAULT_SUFFIX: Final = "/.default"
# MSAL for Go sends these with every request; they say nothing about a resource (OpenID Connect Core section 5.4).
_IGNORED_SCOPES: Final = frozenset({"openid", "offline_access", "profile"})
_SCOPE_TOKEN: Final = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+")  # RFC 6749 section 3.3
_JWT_TYPES: Final = frozenset({"", "jwt", "http://openid.net/specs/jwt/1.0"})
_OPEN_ENDPOINTS: Final = frozenset({"common", "consumers"})
_LAST_SECOND: Final = 253402300799  # 9999-12-31T23:59:59Z

PUBLIC_CLOUD: Final = "https://login.microsoftonline.com"  # whose part an emulator of that name plays
_STS: Final = "https://sts.windows.net"

Form = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Grant:
    """Who is to get a token for what; `audience` is the resource as it was asked for."""

    tenant: Tenant
    application: Application
    audience: str
    resource: Resource


@dataclass(frozen=True, slots=True)
class Candidate:
    """A request whose words are right; its assertion is not verified."""

    grant: Grant
    credential: FederatedCredential
    assertion: UnverifiedAssertion


# --- 1. The form ----------------------------------------------------------------------------------------


def read_form(content_type: str, body: bytes) -> Form | Fault:
    """The parameters of a form post; a body of another type counts as one without parameters, as Entra has it."""
    if content_type.partition(";")[0].strip().lower() != FORM:
        return {}
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_PARAMETERS)
    except ValueError:  # UnicodeDecodeError is one
        return faults.REQUEST_MALFORMED()
    form = dict(pairs)
    # RFC 6749 section 3.2: request parameters must not be included more than once.
    return form if len(form) == len(pairs) else faults.REQUEST_MALFORMED()


def find_tenant(directory: Directory, name: str) -> Tenant | Fault:
    """The tenant that a token request's path names; `common` and its like name none."""
    if name.lower() in _OPEN_ENDPOINTS:
        return faults.COMMON_NOT_SUPPORTED()
    if name.lower() == "organizations":
        return faults.TENANT_NOT_NAMED()
    return directory.tenant(name) or faults.TENANT_NOT_FOUND(tenant=name)


# --- 2. What the request is about -----------------------------------------------------------------------


def examine(form: Form, tenant: Tenant, directory: Directory, now: float) -> Candidate | Grant | Fault:
    """Which application, resource and federated credential a request is about, or why it is refused at once.

    A request with the application's own secret or certificate is granted at once.
    """
    incomplete = _incomplete(form)
    if incomplete is not None:
        return incomplete
    audience = _read_scope(form["scope"])
    if isinstance(audience, Fault):
        return audience
    application = tenant.application(form["client_id"])
    if application is None or not application.has_principal:
        return faults.APPLICATION_NOT_FOUND(client_id=form["client_id"], directory=tenant.name)
    if application.disabled:
        return faults.APPLICATION_DISABLED(client_id=application.client_id, display_name=application.display_name)
    own = _read_own_credential(form, application, now)
    assertion = own if own is not None else _read_assertion(form)
    if isinstance(assertion, Fault):
        return assertion
    resource = directory.resource(tenant, audience)
    if isinstance(assertion, bool):
        known = Grant(tenant, application, audience, resource) if resource is not None else None
        return known or faults.RESOURCE_NOT_FOUND(resource=audience, directory=tenant.name)
    credential = match_credential(application, assertion)
    if isinstance(credential, Fault):
        return credential
    if resource is None:
        return faults.RESOURCE_NOT_FOUND(resource=audience, directory=tenant.name)
    return Candidate(Grant(tenant, application, audience, resource), credential, assertion)


def _incomplete(form: Form) -> Fault | None:
    """What is missing of the parameters that every request needs; an empty one is missing."""
    if not form.get("grant_type"):
        return faults.PARAMETER_MISSING(parameter="grant_type")
    if form["grant_type"] != GRANT_TYPE:
        return faults.GRANT_TYPE_UNSUPPORTED(grant_type=form["grant_type"])
    missing = next((name for name in ("client_id", "scope") if not form.get(name, "").strip()), None)
    return faults.PARAMETER_MISSING(parameter=missing) if missing else None


def _read_scope(scope: str) -> str | Fault:
    """The resource of `<resource>/.default`, spelt as asked: it becomes the token's audience."""
    words = scope.split(" ")
    asked = [word for word in words if word and word not in _IGNORED_SCOPES]
    if not all(_SCOPE_TOKEN.fullmatch(word) for word in asked):
        return faults.SCOPE_INVALID(scope=scope)
    if not asked:
        return faults.SCOPE_NOT_DEFAULT(scope=scope)
    bad = next((word for word in asked if not word.removesuffix(_DEFAULT_SUFFIX) or word == _bare(word)), None)
    if bad is not None:
        return faults.SCOPE_NOT_DEFAULT(scope=bad)
    resources = {_bare(word) for word in asked}
    return _bare(asked[0]) if len(resources) == 1 else faults.SCOPE_INVALID(scope=scope)


def _bare(scope: str) -> str:
    return scope.removesuffix(_DEFAULT_SUFFIX)


def _read_own_credential(form: Form, application: Application, now: float) -> bool | Fault | None:
    """Whether the application proves itself by its own secret or certificate; None where it shows neither."""
    if form.get("client_secret") and not form.get("client_assertion"):
        return form["client_secret"] in application.secrets or faults.SECRET_INVALID(client_id=application.client_id)
    assertion = read_unverified(form.get("client_assertion", ""))
    if assertion is None or assertion.issuer != application.client_id:
        return None
    for certificate in application.certificates:
        key = x509.load_der_x509_certificate(certificate).public_key()
        try:
            jwt.PyJWS().decode(assertion.compact, key, algorithms=list(_CERTIFICATE_ALGORITHMS))  # type: ignore[arg-type]
        except (jwt.InvalidTokenError, jwt.InvalidKeyError):
            continue
        return assertion.expires > now or faults.ASSERTION_OUT_OF_TIME(
            now=_precise(now), start=_precise(assertion.not_before), end=_precise(assertion.expires)
        )
    return faults.CERTIFICATE_UNKNOWN(client_id=application.client_id)


def _read_assertion(form: Form) -> UnverifiedAssertion | Fault:
    """The assertion, readable and of a kind that a signature check can follow."""
    compact = form.get("client_assertion", "")
    if not compact:
        return faults.CREDENTIAL_MISSING()
    if not form.get("client_assertion_type"):
        return faults.PARAMETER_MISSING(parameter="client_assertion_type")
    if form["client_assertion_type"] != ASSERTION_TYPE:
        return faults.REQUEST_MALFORMED()
    assertion = read_unverified(compact)
    if assertion is None or assertion.type.lower() not in _JWT_TYPES:
        return faults.ASSERTION_MALFORMED()
    if assertion.algorithm not in ALGORITHMS:
        return faults.ALGORITHM_UNSUPPORTED(algorithm=assertion.algorithm)
    if not assertion.kid:
        return faults.ASSERTION_WITHOUT_KEY()
    return assertion


def asserted_subject(form: Form) -> str:
    """The subject a request claims, for log lines; empty when it cannot be read."""
    assertion = read_unverified(form.get("client_assertion", ""))
    return assertion.subject if assertion else ""


def match_credential(application: Application, assertion: UnverifiedAssertion) -> FederatedCredential | Fault:
    """The credential with exactly this issuer, subject and one of these audiences.

    Microsoft documents the codes, not which one wins when several values differ. Here the value that no credential
    has is named, issuer first, then subject, then audience; when each is known but no one record has all three, the
    refusal is the general one.
    """
    records = application.credentials
    if not records:
        return faults.NO_CREDENTIALS(client_id=application.client_id, display_name=application.display_name)
    match = next((record for record in records if _matches(record, assertion)), None)
    return match or _mismatch(records, assertion)


def _matches(record: FederatedCredential, assertion: UnverifiedAssertion) -> bool:
    if record.expression:
        subject = matches_subject(record.expression, assertion.subject)
    else:
        subject = record.subject == assertion.subject
    return subject and record.issuer == assertion.issuer and record.audience in assertion.audiences


def _mismatch(records: tuple[FederatedCredential, ...], assertion: UnverifiedAssertion) -> Fault:
    issuer, subject, audience = assertion.issuer, assertion.subject, ", ".join(assertion.audiences)
    if all(record.issuer != issuer for record in records):
        return faults.NO_ISSUER(issuer=issuer)
    if all(record.subject != subject for record in records):
        differs_in_case = any(record.subject.lower() == subject.lower() for record in records)
        return faults.SUBJECT_CASE(subject=subject) if differs_in_case else faults.NO_SUBJECT(subject=subject)
    if all(record.audience not in assertion.audiences for record in records):
        return faults.NO_AUDIENCE(audience=audience)
    return faults.NO_RECORD(issuer=issuer, subject=subject, audience=audience)


# --- 3. Verification ------------------------------------------------------------------------------------


def verify(assertion: UnverifiedAssertion, keys: PublicKeys, now: float) -> Fault | None:
    """Why the assertion is not to be trusted, given the keys its issuer publishes; None when it is."""
    key = keys.get(assertion.kid)
    if key is None:
        return faults.KEY_UNKNOWN(kid=assertion.kid, issuer=assertion.issuer)
    try:
        jwt.PyJWS().decode(assertion.compact, key, algorithms=list(ALGORITHMS))
    except (jwt.InvalidTokenError, jwt.InvalidKeyError):
        return faults.SIGNATURE_INVALID(kid=assertion.kid)
    if assertion.not_before > now + CLOCK_SKEW or assertion.expires < now - CLOCK_SKEW:
        return faults.ASSERTION_OUT_OF_TIME(
            now=_precise(now), start=_precise(assertion.not_before), end=_precise(assertion.expires)
        )
    return None


def _precise(seconds: float) -> str:
    """A time as .NET writes it, to a tenth of a microsecond."""
    moment = datetime.fromtimestamp(min(max(seconds, 0.0), _LAST_SECOND), UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond:06d}0Z"


# --- 4. The token ---------------------------------------------------------------------------------------


def access_token_claims(grant: Grant, base_url: str, now: float, seed: bytes) -> JsonObject:
    """The claims of an access token for an application, in the version that its resource wants.

    Args:
        grant: Who gets it for what; by now verified.
        base_url: The emulator's own, without a trailing slash.
        now: Seconds since 1970.
        seed: 16 random bytes that make the opaque claims unique.
    """
    application = grant.application
    start = int(now) - _BACKDATED
    common: JsonObject = {
        "iat": start,
        "nbf": start,
        "exp": int(now) + LIFETIME,
        "aio": base64url(hashlib.sha256(b"aio" + seed).digest()),
        "oid": application.object_id,
        "rh": "1." + base64url(hashlib.sha256(b"rh" + seed).digest()) + ".",
        "sub": application.object_id,
        "tid": grant.tenant.tenant_id,
        "uti": base64url(seed),
    }
    if application.resource_id:
        common["xms_mirid"] = application.resource_id
    particular = _v1_claims(grant, base_url) if grant.resource.token_version == 1 else _v2_claims(grant, base_url)
    return particular | common


def _v1_claims(grant: Grant, base_url: str) -> JsonObject:
    issuer = v1_issuer(base_url, grant.tenant.tenant_id)
    return {
        "aud": grant.audience,
        "iss": issuer,
        "appid": grant.application.client_id,
        "appidacr": "2",  # the client showed an assertion
        "idp": issuer,
        "idtyp": "app",
        "ver": "1.0",
    }


def _v2_claims(grant: Grant, base_url: str) -> JsonObject:
    return {
        "aud": grant.resource.client_id,  # in version 2 always the client id of the resource
        "iss": v2_issuer(base_url, grant.tenant.tenant_id),
        "azp": grant.application.client_id,
        "azpacr": "2",
        "ver": "2.0",
    }


def v1_issuer(base_url: str, tenant: str) -> str:
    """The `iss` of version 1.0 tokens of a tenant; ends with a slash, as Entra's does, which has a name of its own."""
    return f"{_STS if base_url == PUBLIC_CLOUD else base_url}/{tenant}/"


def v2_issuer(base_url: str, tenant: str) -> str:
    """The `iss` of version 2.0 tokens of a tenant."""
    return f"{base_url}/{tenant}/v2.0"


def token_answer(access_token: str) -> JsonObject:
    """The body of a granted request."""
    return {
        "token_type": "Bearer",
        "expires_in": LIFETIME - 1,
        "ext_expires_in": LIFETIME - 1,
        "access_token": access_token,
    }
