"""The certificate that a replica serves: a TLS context, and what is loaded into it."""

from __future__ import annotations

from azwi.webhook.certificates.tls import load_pair_bytes, make_context


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
