"""The serving certificate from files that somebody else renews: loaded, checked, loaded again on change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from azwi.errors import ConfigurationError
from azwi.webhook.certificates.expiry import Expiry
from azwi.webhook.certificates.tls import load_pair, make_context
from azwi.webhook.files import FollowedFiles

if TYPE_CHECKING:
    from pathlib import Path

CERTIFICATE: Final = "tls.crt"
KEY: Final = "tls.key"


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
        self.context = make_context(min_version)
        self.expiry = Expiry()
        self._pair = (folder / CERTIFICATE, folder / KEY)
        self.refresh = FollowedFiles("certificate", lambda: self._pair, self._load).refresh

    def _load(self) -> None:
        certificate, key = self._pair
        try:
            content = certificate.read_bytes()
            load_pair(self.context, certificate, key)
        except OSError as problem:
            raise ConfigurationError(
                f"no certificate: {certificate} and {KEY} cannot be read: {problem.strerror}",
                hint="--webhook-cert-dir names the folder",
            ) from problem
        self.expiry.follow(content)
