"""The emulator's own certificate authority and the server certificate it issues; PEM bytes, no files."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Iterable

LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1")
_BACKDATED: Final = timedelta(hours=1)  # a clock that runs behind still accepts it
_LIFE: Final = timedelta(days=90)  # a run of the emulator lasts hours


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority that exists for one run."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        """The certificate that clients must trust."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """A server's certificate and its private key, both PEM; the key is not encrypted."""

    certificate: bytes
    key: bytes


def generate_authority(now: float) -> Authority:
    """A new authority (EC P-256), valid from an hour before `now` (seconds since 1970) for 90 days."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("azwi emulator CA (no identity provider)")
    usage = x509.KeyUsage(
        key_cert_sign=True,
        crl_sign=True,
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        _builder(name, name, key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def issue_server_certificate(authority: Authority, now: float, names: Iterable[str] = ()) -> ServerCertificate:
    """A certificate for localhost, 127.0.0.1 and the given host names or addresses."""
    key = ec.generate_private_key(ec.SECP256R1())
    alternatives = [_alternative(name) for name in dict.fromkeys((*LOOPBACK_NAMES, *names))]
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    certificate = (
        _builder(_name("localhost"), authority.certificate.subject, key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(issuer_key, critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return ServerCertificate(certificate.public_bytes(serialization.Encoding.PEM), private)


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: float
) -> x509.CertificateBuilder:
    start = datetime.fromtimestamp(now, UTC) - _BACKDATED
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + _LIFE)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
