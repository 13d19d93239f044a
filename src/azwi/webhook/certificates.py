"""The serving certificate, from files that somebody else renews: loaded, checked, loaded again on change."""

from __future__ import annotations

import ssl
import warnings
from typing import TYPE_CHECKING, Final

from azwi.errors import ConfigurationError
from azwi.webhook.files import FollowedFiles

if TYPE_CHECKING:
    from pathlib import Path

CERTIFICATE: Final = "tls.crt"
KEY: Final = "tls.key"

_VERSIONS: Final = {
    "1.0": ssl.TLSVersion.TLSv1,
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}


class CertificateFiles:
    """A TLS context that follows tls.crt and tls.key of a folder.

    A new certificate serves new connections; connections that are open go on.
    """

    def __init__(self, folder: Path, min_version: str) -> None:
        """Load the pair.

        Args:
            folder: Where tls.crt and tls.key are.
            min_version: `1.0` to `1.3`.

        Raises:
            ConfigurationError: The pair cannot be read.
        """
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with warnings.catch_warnings():
            # Old versions are the operator's choice; OpenSSL still refuses them unless its policy allows them.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.context.minimum_version = _VERSIONS[min_version]
        # The API server speaks HTTP/1.1 to webhooks.
        self.context.set_alpn_protocols(["http/1.1"])
        self._pair = (folder / CERTIFICATE, folder / KEY)
        self.refresh = FollowedFiles("certificate", lambda: self._pair, self._load).refresh

    def _load(self) -> None:
        certificate, key = self._pair
        try:
            # On a context of its own first: a pair that does not match must not half replace the one in use.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
            self.context.load_cert_chain(certificate, key)
        except (ssl.SSLError, ValueError) as problem:
            raise ConfigurationError(
                f"{certificate} and {KEY} are no certificate with its key: {problem}",
                hint="both must be PEM, the chain with the leaf first",
            ) from problem
        except OSError as problem:
            raise ConfigurationError(
                f"no certificate: {certificate} and {KEY} cannot be read: {problem.strerror}",
                hint="--webhook-cert-dir names the folder",
            ) from problem
