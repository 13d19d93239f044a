"""The national clouds of Microsoft Entra, and private ones named by an authority or a file.

Source of names and hosts: the table that go-autorest's `azure.EnvironmentFromName` reads (R 4.1), and Microsoft's
"National clouds" page for Graph and Resource Manager.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import msgspec

from azwi.contract import DEFAULT_AUDIENCE
from azwi.errors import ConfigurationError

STACK_CLOUD: Final = "AZURESTACKCLOUD"


@dataclass(frozen=True, slots=True)
class Cloud:
    """One cloud: where tokens, Graph and Resource Manager are.

    `authority_host` ends with a slash, as the SDKs' variable does. `suggested_audience` is what Microsoft's documents
    name for new federated credentials of that cloud; the webhook never uses it by itself (D 18).
    """

    name: str
    authority_host: str
    graph: str
    resource_manager: str
    suggested_audience: str = DEFAULT_AUDIENCE


PUBLIC: Final = Cloud(
    "AzurePublicCloud",
    "https://login.microsoftonline.com/",
    "https://graph.microsoft.com",
    "https://management.azure.com",
)
US_GOVERNMENT: Final = Cloud(
    "AzureUSGovernmentCloud",
    "https://login.microsoftonline.us/",
    "https://graph.microsoft.us",
    "https://management.usgovcloudapi.net",
    "api://AzureADTokenExchangeUSGov",
)
CHINA: Final = Cloud(
    "AzureChinaCloud",
    "https://login.chinacloudapi.cn/",
    "https://microsoftgraph.chinacloudapi.cn",
    "https://management.chinacloudapi.cn",
    "api://AzureADTokenExchangeChina",
)
GERMAN: Final = Cloud(
    "AzureGermanCloud",
    "https://login.microsoftonline.de/",
    "https://graph.microsoft.de",
    "https://management.microsoftazure.de",
)

_BY_NAME: Final = {
    "AZUREPUBLICCLOUD": PUBLIC,
    "AZURECLOUD": PUBLIC,
    "AZUREUSGOVERNMENTCLOUD": US_GOVERNMENT,
    "AZUREUSGOVERNMENT": US_GOVERNMENT,
    "AZURECHINACLOUD": CHINA,
    "AZUREGERMANCLOUD": GERMAN,
}


class _StackFile(msgspec.Struct):
    """The part of an AZURE_ENVIRONMENT_FILEPATH file that is read; names as in go-autorest."""

    activeDirectoryEndpoint: str  # noqa: N815
    name: str = "AzureStackCloud"
    graphEndpoint: str = ""  # noqa: N815
    resourceManagerEndpoint: str = ""  # noqa: N815


def find_cloud(name: str) -> Cloud:
    """The cloud of that name, whatever the case; the empty name is the public cloud.

    Raises:
        ConfigurationError: There is none, with the reference's text.
    """
    if not name:
        return PUBLIC
    cloud = _BY_NAME.get(name.upper())
    if cloud is None:
        allowed = ", ".join((*(known.name for known in (PUBLIC, US_GOVERNMENT, CHINA, GERMAN)), "AzureStackCloud"))
        message = (
            "failed to get AAD endpoint: autorest/azure: There is no cloud environment matching the name "
            f'"{name.upper()}"'
        )
        raise ConfigurationError(message, hint=f"set AZURE_ENVIRONMENT to one of {allowed}")
    return cloud


def parse_stack_cloud(document: bytes, where: str) -> Cloud:
    """The private cloud that an environment file describes.

    Args:
        document: The JSON file AZURE_ENVIRONMENT_FILEPATH names.
        where: Its path, for errors.

    Raises:
        ConfigurationError: It is not such a document.
    """
    try:
        stack = msgspec.json.decode(document, type=_StackFile)
    except msgspec.DecodeError as problem:
        raise ConfigurationError(
            f"{where} (named by AZURE_ENVIRONMENT_FILEPATH) describes no cloud: {problem}",
            hint='it must be a JSON object with "activeDirectoryEndpoint"',
        ) from problem
    return Cloud(
        stack.name,
        parse_authority_host(stack.activeDirectoryEndpoint, f"activeDirectoryEndpoint in {where}"),
        stack.graphEndpoint,
        stack.resourceManagerEndpoint,
    )


def parse_authority_host(value: str, where: str) -> str:
    """An authority host as the SDKs take it: https, a host, perhaps a path, no query; with a trailing slash.

    Args:
        value: What was configured.
        where: The variable, flag or field it came from, for errors.

    Raises:
        ConfigurationError: It is not such an address.
    """
    try:
        parts = urlsplit(value)
        fits = (
            parts.scheme == "https"
            and bool(parts.hostname)
            and not (parts.query or parts.fragment or parts.username or parts.password)
            and (parts.port or 443) > 0
        )
    except ValueError:
        fits = False
    if not fits or any(character.isspace() for character in value):
        raise ConfigurationError(
            f"{where}: {value!r} is no authority",
            hint="it must be an https address without query or credentials, such as https://login.microsoftonline.com/",
        )
    return value.rstrip("/") + "/"
