"""The TLS context of the webhook's port: one for its whole life, whose certificate is replaced under it."""

from __future__ import annotations

import os
import ssl
import warnings
from typing import TYPE_CHECKING, BinaryIO, Final

from azwi.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

_VERSIONS: Final = {
    "1.0": ssl.TLSVersion.TLSv1,
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}


def make_context(min_version: str) -> ssl.SSLContext:
    """A server's context without a certificate yet; `min_version` is `1.0` to `1.3`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with warnings.catch_warnings():
        # Old versions are the operator's choice; OpenSSL still refuses them unless its policy allows them.
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = _VERSIONS[min_version]
    # The API server speaks HTTP/1.1 to webhooks.
    context.set_alpn_protocols(["http/1.1"])
    return context


def load_pair(context: ssl.SSLContext, certificate: Path | str, key: Path | str) -> None:
    """Serve new connections with that pair of PEM files; connections that are open go on.

    Raises:
        OSError: A file cannot be read.
        ConfigurationError: They are no certificate with its key; the context is as it was.
    """
    try:
        # On a context of its own first: a pair that does not match must not half replace the one in use.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
        context.load_cert_chain(certificate, key)
    except (ssl.SSLError, ValueError) as problem:
        raise ConfigurationError(
            f"{certificate} and {key} are no certificate with its key: {problem}",
            hint="both must be PEM, the chain with the leaf first",
        ) from problem


def load_pair_bytes(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """The same for PEM in memory; the ssl module takes files only, so these are files that no disk holds.

    Raises:
        ConfigurationError: They are no certificate with its key; the context is as it was.
    """
    with _memory_file("tls.crt", certificate) as one, _memory_file("tls.key", key) as two:
        load_pair(context, f"/proc/self/fd/{one.fileno()}", f"/proc/self/fd/{two.fileno()}")


class Serving:
    """A TLS context, and what is loaded into it.

    Args:
        min_version: Of TLS, `1.0` to `1.3`.

    Attributes:
        authority: PEM of the authority that signed what is served; empty before the first.
        certificate: PEM of what is served; empty before the first.
    """

    def __init__(self, min_version: str) -> None:
        self.context = make_context(min_version)
        self.authority = b""
        self.certificate = b""
        self._tried = (b"", b"")

    def has_tried(self, certificate: bytes, key: bytes) -> bool:
        """Whether this pair was the last one to be loaded, or to be refused."""
        return self._tried == (certificate, key)

    def load(self, authority: bytes, certificate: bytes, key: bytes) -> None:
        """Serve new connections with that pair; connections that are open go on.

        Raises:
            ConfigurationError: They are no certificate with its key; what was served is.
        """
        self._tried = (certificate, key)
        load_pair_bytes(self.context, certificate, key)
        self.authority, self.certificate = authority, certificate


def _memory_file(name: str, content: bytes) -> BinaryIO:
    file = os.fdopen(os.memfd_create(name, os.MFD_CLOEXEC), "w+b")
    file.write(content)
    file.flush()
    return file
