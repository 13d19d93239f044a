"""The serving certificate, from files that somebody else renews: loaded, checked, loaded again on change."""

from __future__ import annotations

import ssl
import warnings
from typing import TYPE_CHECKING, Final

from azwi.errors import ConfigurationError
from azwi.log import logger

if TYPE_CHECKING:
    from pathlib import Path

log = logger("webhook")

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

    A new certificate serves new connections; connections that are open go on. A pair that cannot be read or does not
    match is logged and the one before stays.
    """

    def __init__(self, folder: Path, min_version: str) -> None:
        """Load the pair.

        Args:
            folder: Where tls.crt and tls.key are.
            min_version: `1.0` to `1.3`.

        Raises:
            ConfigurationError: The pair cannot be read.
        """
        self._folder = folder
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with warnings.catch_warnings():
            # Old versions are the operator's choice; OpenSSL still refuses them unless its policy allows them.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.context.minimum_version = _VERSIONS[min_version]
        # The API server speaks HTTP/1.1 to webhooks.
        self.context.set_alpn_protocols(["http/1.1"])
        self._signature = self._look()
        self._load()

    def refresh(self) -> None:
        """Load the pair again if a file has changed."""
        try:
            signature = self._look()
            if signature == self._signature:
                return
            self._signature = signature
            self._load()
        except ConfigurationError as problem:
            fields = {"error": str(problem)}
            log.error("certificate cannot be loaded again, the old one stays", extra={"fields": fields})  # noqa: TRY400
        else:
            log.info("certificate loaded again", extra={"fields": {"folder": str(self._folder)}})

    def _look(self) -> tuple[object, ...]:
        try:
            states = [(self._folder / name).stat() for name in (CERTIFICATE, KEY)]
        except OSError as problem:
            raise ConfigurationError(
                f"no certificate: {self._folder / CERTIFICATE} and {KEY} cannot be read: {problem.strerror}",
                hint="--webhook-cert-dir names the folder",
            ) from problem
        return tuple((state.st_mtime_ns, state.st_size, state.st_ino) for state in states)

    def _load(self) -> None:
        pair = (self._folder / CERTIFICATE, self._folder / KEY)
        try:
            # On a context of its own first: a pair that does not match must not half replace the one in use.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*pair)
            self.context.load_cert_chain(*pair)
        except (OSError, ValueError) as problem:
            raise ConfigurationError(
                f"{pair[0]} and {KEY} are no certificate with its key: {problem}",
                hint="both must be PEM, the chain with the leaf first",
            ) from problem
