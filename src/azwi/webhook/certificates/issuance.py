"""Certificates made and read: EC P-256 authorities and the server certificates they sign, all PEM. No I/O.

Source: D 21; RFC 5280 sections 4.2.1.1, 4.2.1.2 (key identifiers), 4.2.1.9 (basic constraints).
"""

from __future__ import annotations

import ipaddress
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Iterable

HOUR: Final = 3600.0  # seconds
DAY: Final = 24 * HOUR
BACKDATED: Final = HOUR  # a clock that runs behind still accepts it
AUTHORITY_LIFE: Final = 3650 * DAY
LEAF_LIFE: Final = 365 * DAY
_ORGANIZATION: Final = "azure-workload-identity"
_AUTHORITY_NAME: Final = "azure-workload-identity-ca"
_LEAF_NAME: Final = "azure-workload-identity-webhook"  # names that are checked are alternative names


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate with its private key, both PEM; the key is not encrypted."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Facts:
    """What a certificate says; times in seconds since 1970.

    Attributes:
        modern: Whether its key is EC P-256.
        authority: Whether it may sign others.
        names: Its alternative names.
    """

    not_before: float
    not_after: float
    modern: bool
    authority: bool
    names: frozenset[str]


def issue_authority(now: float) -> Pair:
    """A new authority, valid for ten years."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANIZATION),
            x509.NameAttribute(NameOID.COMMON_NAME, _AUTHORITY_NAME),
        ]
    )
    certificate = (
        _builder(name, key.public_key(), now, now + AUTHORITY_LIFE)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Pair(_pem(certificate), _private(key))


def issue_leaf(authority: Pair, names: Iterable[str], now: float) -> Pair:
    """A server certificate for host names and addresses, valid for a year and no longer than its authority."""
    issuer = _load(authority.certificate)
    issuer_key = serialization.load_pem_private_key(authority.key, None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)  # noqa: S101  # only modern authorities sign
    key = ec.generate_private_key(ec.SECP256R1())
    until = min(now + LEAF_LIFE, issuer.not_valid_after_utc.timestamp())
    certificate = (
        _builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _LEAF_NAME)]), key.public_key(), now, until)
        .issuer_name(issuer.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    return Pair(_pem(certificate), _private(key))


def read_facts(certificate: bytes) -> Facts | None:
    """What the first certificate of a PEM text says; None where there is none."""
    try:
        found = _load(certificate)
        public = found.public_key()
        modern = isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, ec.SECP256R1)
        return Facts(
            found.not_valid_before_utc.timestamp(),
            found.not_valid_after_utc.timestamp(),
            modern,
            _is_authority(found),
            _names(found),
        )
    except (ValueError, x509.DuplicateExtension, UnsupportedAlgorithm):
        return None


def matches(pair: Pair) -> bool:
    """Whether the key is that of the certificate; False, too, for what is no key or no certificate."""
    try:
        certificate = _load(pair.certificate)
        key = serialization.load_pem_private_key(pair.key, None)
        return bool(key.public_key() == certificate.public_key())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False


def is_issued_by(leaf: bytes, authority: bytes) -> bool:
    """Whether one certificate was signed with the key of another, and names it."""
    try:
        issuer = _load(authority)
        _load(leaf).verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _load(certificate: bytes) -> x509.Certificate:
    """The first certificate of a PEM text.

    Raises:
        ValueError: There is none.
    """
    with warnings.catch_warnings():
        # The reference's authority has the serial number 0 (R 3.1), which a later release of the library will refuse.
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        return x509.load_pem_x509_certificate(certificate)


def _builder(
    subject: x509.Name, public: ec.EllipticCurvePublicKey, now: float, until: float
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(now - BACKDATED, UTC))
        .not_valid_after(datetime.fromtimestamp(until, UTC))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _names(certificate: x509.Certificate) -> frozenset[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(str(name.value) for name in names)


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
