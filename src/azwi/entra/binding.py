"""Identity binding: a cluster's own proxy in front of Microsoft Entra's token endpoint, as variables name it.

Every request for Entra, discovery too, goes to the proxy's address with its own path behind the proxy's.

Source: "Identity bindings" of AKS; azure-identity's `WorkloadIdentityCredential` with `enable_azure_proxy`, whose rules
for the four variables these are; D 31.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from azwi.contract import CA_DATA_VARIABLE, CA_FILE_VARIABLE, SNI_NAME_VARIABLE, TOKEN_PROXY_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class TokenProxy:
    """Where requests for Entra go instead.

    `path` has no slash at its end and may be empty. `server_name` is the name in TLS. At most one of `ca_file` and
    `ca_data` (PEM) is given, and then nothing else is trusted.
    """

    host: str
    port: int
    path: str
    server_name: str
    ca_file: str = ""
    ca_data: str = ""


def read_token_proxy(environment: Mapping[str, str], problems: list[str]) -> TokenProxy | None:
    """The token proxy that the environment names, or None; what is wrong is added to the problems."""
    url = environment.get(TOKEN_PROXY_VARIABLE, "")
    server_name = environment.get(SNI_NAME_VARIABLE, "")
    ca_file, ca_data = environment.get(CA_FILE_VARIABLE, ""), environment.get(CA_DATA_VARIABLE, "")
    if not url:
        given = [name for name in (SNI_NAME_VARIABLE, CA_FILE_VARIABLE, CA_DATA_VARIABLE) if environment.get(name, "")]
        if given:
            problems.append(f"{' and '.join(given)} set without {TOKEN_PROXY_VARIABLE}")
        return None
    if ca_file and ca_data:
        problems.append(f"{CA_FILE_VARIABLE} and {CA_DATA_VARIABLE} are both set; one is allowed")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 443
    except ValueError:
        host, port = "", 0
    if not host or parts.scheme != "https" or "@" in parts.netloc or "?" in url or "#" in url or _has_blank(url):
        problems.append(
            f"{TOKEN_PROXY_VARIABLE} is {url!r}; an https address without user, query and fragment is allowed"
        )
        return None
    return TokenProxy(host, port, parts.path.rstrip("/"), server_name or host, ca_file, ca_data)


def _has_blank(url: str) -> bool:
    return any(character.isspace() or not character.isprintable() for character in url)
