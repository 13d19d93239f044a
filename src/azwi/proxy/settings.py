"""What azwi-proxy is told by its environment, read once, every problem reported together.

Source: R 5; the variables are what the webhook sets (R 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from azwi import contract
from azwi.entra.binding import read_token_proxy
from azwi.entra.clouds import PUBLIC, parse_authority_host
from azwi.errors import ConfigurationError, sentence

if TYPE_CHECKING:
    from collections.abc import Mapping

    from azwi.entra.binding import TokenProxy


@dataclass(frozen=True, slots=True)
class Settings:
    """The identity and the way to its tokens.

    `client_id` is empty where requests must name one. `authority_host` ends with a slash. `ca_file` is empty for the
    system's certificates. `token_proxy` stands between us and Entra where identities are bound to the cluster.
    """

    client_id: str
    tenant_id: str
    token_file: str
    authority_host: str
    ca_file: str
    token_proxy: TokenProxy | None = None


def read_settings(environment: Mapping[str, str]) -> Settings:
    """The settings in the environment's variables; an empty one counts as not set.

    Raises:
        ConfigurationError: Some are missing or wrong; all of them are named.
    """
    problems: list[str] = []
    tenant_id = _require(environment, contract.TENANT_ID_VARIABLE, problems)
    token_file = _require(environment, contract.TOKEN_FILE_VARIABLE, problems)
    authority_host = PUBLIC.authority_host
    try:
        configured = environment.get(contract.AUTHORITY_HOST_VARIABLE) or authority_host
        authority_host = parse_authority_host(configured, contract.AUTHORITY_HOST_VARIABLE)
    except ConfigurationError as problem:
        problems.append(str(problem))
    token_proxy = read_token_proxy(environment, problems)
    if problems:
        raise ConfigurationError(sentence(problems))
    return Settings(
        client_id=environment.get(contract.CLIENT_ID_VARIABLE, ""),
        tenant_id=tenant_id,
        token_file=token_file,
        authority_host=authority_host,
        ca_file=environment.get(contract.SSL_CERT_FILE_VARIABLE, ""),
        token_proxy=token_proxy,
    )


def _require(environment: Mapping[str, str], name: str, problems: list[str]) -> str:
    value = environment.get(name, "")
    if not value:
        problems.append(f"{name} not set")
    return value
