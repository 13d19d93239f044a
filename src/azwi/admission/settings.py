"""What the operator set for all Pods; made once when a program starts."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from azwi.contract import DEFAULT_AUDIENCE, DEFAULT_PROXY_UID
from azwi.version import __version__

if TYPE_CHECKING:
    from azwi.admission.pod import JsonObject

DEFAULT_IMAGE: Final = f"azure-workload-identity:{__version__}"


class LegacyTokenPath(StrEnum):
    """Whether the token also stands where the reference put it before 1.6 (D 3)."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class NativeSidecar(StrEnum):
    """Whether the proxy is an init container that keeps running (D 12)."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class InitPrivilege(StrEnum):
    """What azwi-proxy-init may do (D 9).

    `NFT`: NET_ADMIN alone, enough for iptables-nft. `LEGACY`: NET_RAW and a writable lock file too, for
    iptables-legacy. `PRIVILEGED`: the reference's shape.
    """

    NFT = "nft"
    LEGACY = "legacy"
    PRIVILEGED = "privileged"


@dataclass(frozen=True, slots=True)
class Resources:
    """Kubernetes quantities of one container; an empty one is left out."""

    cpu_request: str
    memory_request: str
    cpu_limit: str
    memory_limit: str


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """The two containers that we inject. Defaults are measured ones (D 11)."""

    image: str = DEFAULT_IMAGE
    init_image: str = DEFAULT_IMAGE
    pull_policy: str = "IfNotPresent"
    log_level: str = ""
    uid: int = DEFAULT_PROXY_UID
    native_sidecar: bool = True
    init_privilege: InitPrivilege = InitPrivilege.NFT
    resources: Resources = Resources("10m", "40Mi", "500m", "96Mi")
    init_resources: Resources = Resources("10m", "24Mi", "500m", "64Mi")


@dataclass(frozen=True, slots=True)
class CustomEndpoint:
    """Identity binding: the token endpoint of Pods that ask for it by annotation (R 2.8).

    `ca_source` is the projected source of the CA file, None where none is projected; `ca_data` is PEM text.
    """

    annotation: str
    audience: str
    token_proxy: str = ""
    sni_name: str = ""
    ca_data: str = ""
    ca_source: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that injection needs to know besides the Pod and its service account.

    `authority_host` ends with a slash. `strict` refuses what could only be warned about (D 7).
    """

    tenant_id: str
    authority_host: str
    audience: str = DEFAULT_AUDIENCE
    strict: bool = False
    legacy_token_path: LegacyTokenPath = LegacyTokenPath.AUTO
    custom_endpoint: CustomEndpoint | None = None
    proxy: ProxySettings = field(default_factory=ProxySettings)


# R 2.4: native sidecars are on from 1.32; an alpha, beta or release candidate of 1.32 is before it.
_FIRST_NATIVE: Final = (1, 32, 0)
_GIT_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(?:-(alpha|beta|rc)\b)?", re.ASCII)


def uses_native_sidecar(mode: NativeSidecar, git_version: str | None) -> bool:
    """Whether proxies become native sidecars on an API server that calls itself `git_version`.

    None: there is no API server to ask, and auto means yes (D 12). A version that cannot be read means no.
    """
    if mode is not NativeSidecar.AUTO:
        return mode is NativeSidecar.ALWAYS
    if git_version is None:
        return True
    match = _GIT_VERSION.match(git_version)
    if match is None:
        return False
    version = (int(match[1]), int(match[2]), int(match[3]))
    return version > _FIRST_NATIVE or (version == _FIRST_NATIVE and match[4] is None)
