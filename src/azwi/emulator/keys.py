"""RSA signing keys: made, published as JSON Web Keys, used to sign, and read back from somebody's JWKS.

No private key leaves memory here.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

import jwt
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

KEY_BITS: Final = 2048
ALGORITHM: Final = "RS256"
_CERTIFICATE_DAYS: Final = 5 * 365

JsonObject: TypeAlias = dict[str, object]
PublicKeys: TypeAlias = Mapping[str, rsa.RSAPublicKey]


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An RSA key with the name its tokens carry as `kid`.

    `certificate` is the DER certificate that Entra publishes with each key; a Kubernetes issuer has none.
    """

    private: rsa.RSAPrivateKey
    kid: str
    certificate: bytes | None = None


def generate_cluster_key() -> SigningKey:
    """A key as kube-apiserver names it: `kid` is the SHA-256 of the public key in DER, in base64url.

    Source: kubernetes/pkg/serviceaccount/jwt.go, keyIDFromPublicKey.
    """
    private = _generate()
    der = private.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return SigningKey(private, base64url(hashlib.sha256(der).digest()))


def generate_entra_key(now: float) -> SigningKey:
    """A key as Entra names it: `kid` is the SHA-1 thumbprint of the key's certificate, in base64url.

    Args:
        now: Seconds since 1970; the certificate is valid from here on.
    """
    private = _generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "emulator.accesscontrol.invalid")])
    start = datetime.fromtimestamp(now, UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=_CERTIFICATE_DAYS))
        .sign(private, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )
    return SigningKey(private, thumbprint(certificate), certificate)


def thumbprint(certificate: bytes) -> str:
    """The `x5t` of a DER certificate (RFC 7515 section 4.1.7, which prescribes SHA-1)."""
    return base64url(hashlib.sha1(certificate, usedforsecurity=False).digest())


def base64url(data: bytes) -> str:
    """Base64url without padding, as all of JOSE writes bytes (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def public_jwk(key: SigningKey) -> JsonObject:
    """The public half as a JSON Web Key (RFC 7517, RFC 7518 section 6.3.1)."""
    numbers = key.private.public_key().public_numbers()
    return {
        "use": "sig",
        "kty": "RSA",
        "kid": key.kid,
        "alg": ALGORITHM,
        "n": base64url(_integer(numbers.n)),
        "e": base64url(_integer(numbers.e)),
    }


def sign(key: SigningKey, claims: JsonObject, headers: JsonObject) -> str:
    """A compact JWS over the claims with RS256; `headers` come on top of `alg`, None removes one."""
    return jwt.PyJWS().encode(msgspec.json.encode(claims), key.private, algorithm=ALGORITHM, headers=headers)


class _Jwk(msgspec.Struct):
    """What we read of one published key; whatever else it holds is ignored."""

    kty: str = ""
    kid: str = ""
    n: str = ""
    e: str = ""
    use: str = "sig"


class _Jwks(msgspec.Struct):
    keys: list[_Jwk]


def read_jwks(document: bytes) -> PublicKeys:
    """The RSA signing keys of a JWKS by `kid`; keys of other kinds, without a name or unreadable are left out.

    Raises:
        ValueError: The document is not JSON or not a JWKS.
    """
    try:
        published = msgspec.json.decode(document, type=_Jwks).keys
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError("not a JWKS") from error
    readable = ((jwk.kid, _public_key(jwk)) for jwk in published if jwk.kid and jwk.kty == "RSA" and jwk.use == "sig")
    return {kid: key for kid, key in readable if key is not None}


def _public_key(jwk: _Jwk) -> rsa.RSAPublicKey | None:
    try:
        return rsa.RSAPublicNumbers(e=_number(jwk.e), n=_number(jwk.n)).public_key()
    except ValueError:  # binascii.Error is one
        return None


def _generate() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)


def _integer(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def _number(text: str) -> int:
    return int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), "big")
