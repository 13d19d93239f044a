"""Who is trusted to be Microsoft Entra, or the cluster's token proxy in front of it."""

from __future__ import annotations

import contextlib
import os
import ssl
import threading
from typing import TYPE_CHECKING, Final

from azwi.contract import CA_DATA_VARIABLE, CA_FILE_VARIABLE, SSL_CERT_FILE_VARIABLE
from azwi.errors import ConfigurationError

if TYPE_CHECKING:
    from azwi.entra.binding import TokenProxy

MAX_CA_BYTES: Final = 1_048_576  # what a ConfigMap holds at most


def make_ssl_context(ca_file: str) -> ssl.SSLContext:
    """The context for Entra: the system's authorities, or only those in `ca_file` where one is named.

    Raises:
        ConfigurationError: The file cannot be read or holds no certificate.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as problem:
        raise ConfigurationError(
            f"{SSL_CERT_FILE_VARIABLE}: no certificates could be read from {ca_file!r}: {problem}",
            hint="it must name a file of PEM certificates",
        ) from problem
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class ClusterTrust:
    """The authorities of a token proxy; those in a file are read again when it changes. Safe to share between threads.

    While the file is empty, missing or no certificate, as in the middle of a rotation, the last good ones stay.

    Raises:
        ConfigurationError: There is no good one to begin with.
    """

    def __init__(self, token_proxy: TokenProxy) -> None:
        self._file = token_proxy.ca_file
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        try:
            self._context = self._read_file() if self._file else _make_context(token_proxy.ca_data)
        except (OSError, ValueError) as problem:
            where = f"{CA_FILE_VARIABLE}: {self._file}" if self._file else CA_DATA_VARIABLE
            raise ConfigurationError(f"{where}: {problem}", hint="PEM certificates are needed") from problem

    def find_context(self) -> ssl.SSLContext:
        """The context for a request now."""
        with self._lock:
            if self._file:
                with contextlib.suppress(OSError, ValueError):  # the last good ones stay
                    self._context = self._read_file()
            return self._context

    def _read_file(self) -> ssl.SSLContext:
        """A context with the authorities in the file, or the one there is where the file has not changed."""
        with open(self._file, encoding="ascii", errors="replace") as file:  # noqa: PTH123 - pathlib costs each Pod memory
            stat = os.fstat(file.fileno())
            seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if seen == self._seen:
                return self._context
            context = _make_context(file.read(MAX_CA_BYTES))
        self._seen = seen
        return context


def _make_context(pem: str) -> ssl.SSLContext:
    """A context that trusts these authorities only.

    Raises:
        ValueError: They are none.
    """
    if not pem.strip():
        raise ValueError("it is empty")
    # Between its blocks a bundle may say anything in any language; none of it is a part of them.
    text = "".join(character if character.isascii() else " " for character in pem)
    try:
        context = ssl.create_default_context(cadata=text)
    except ssl.SSLError as problem:
        raise ValueError("it holds no PEM certificates") from problem
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
