"""Which hosts azwi may ask, and the HTTP clients that ask no other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import httpx2

from azwi.entra.trust import make_ssl_context
from azwi.errors import ConfigurationError, EntraError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

TIMEOUT: Final = 30.0  # seconds for each step of a request
_HTTPS_PORT: Final = 443


def trust(ca_file: str) -> ssl.SSLContext:
    """The certificates to trust: a file's, or OpenSSL's own, which SSL_CERT_FILE names.

    Raises:
        ConfigurationError: The file holds none.
    """
    try:
        return make_ssl_context(ca_file)
    except ConfigurationError as problem:
        raise ConfigurationError(f"--ca-file {ca_file} holds no certificates", hint=problem.hint) from problem


def refuse_others(hosts: frozenset[str]) -> Callable[[httpx2.Request], None]:
    """A check for every request: no host but these is ever asked, whatever an answer points to.

    Raises:
        EntraError: From the check, for any other host.
    """

    def check(request: httpx2.Request) -> None:
        if request.url.host not in hosts:
            raise EntraError(
                f"{request.url.host} is no host of this cloud, so it is not asked",
                hint=f"hosts of this cloud are {', '.join(sorted(hosts))}",
            )

    return check


def hosts_of(*addresses: str) -> frozenset[str]:
    """The host names in addresses; empty ones have none."""
    return frozenset(urlsplit(address).hostname or "" for address in addresses if address)


def is_below(address: str, base: str) -> bool:
    """Whether an address has the same scheme, host and port as another, and a path below its path."""
    try:
        url, above = httpx2.URL(address), httpx2.URL(base)
    except httpx2.InvalidURL:
        return False
    origins = {(one.scheme, one.host, one.port or _HTTPS_PORT) for one in (url, above)}
    return len(origins) == 1 and not url.userinfo and url.path.startswith(above.path.rstrip("/") + "/")


def open_http(
    context: ssl.SSLContext, hosts: frozenset[str], transport: httpx2.AsyncBaseTransport | None = None
) -> httpx2.AsyncClient:
    """A client for these hosts and no other, to be closed by whoever asked for it; honours HTTPS_PROXY."""
    check = refuse_others(hosts)

    async def hook(request: httpx2.Request) -> None:  # httpx2 awaits it
        check(request)

    return httpx2.AsyncClient(
        verify=context,
        timeout=TIMEOUT,
        follow_redirects=False,
        transport=transport,
        event_hooks={"request": [hook]},
    )
