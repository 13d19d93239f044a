"""The way to the API server: which one, trusted how, signed in as whom.

lightkube reads kubeconfigs and makes the HTTP client; what it lacks of exec plugins stands in `credentials`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx2
import msgspec
import yaml
from lightkube.config.client_adapter import AsyncClient, ConnectionParams
from lightkube.config.kubeconfig import SERVICE_ACCOUNT, KubeConfig, SingleConfig
from lightkube.core.exceptions import ConfigError

from azwi.cluster.credentials import ExecPlugin
from azwi.errors import ConfigurationError
from azwi.version import user_agent

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT: Final = 10.0  # seconds for each step of a request that says nothing else
_VARIABLE: Final = "KUBECONFIG"
_IN_CLUSTER: Final = "KUBERNETES_SERVICE_HOST"
_HOME: Final = ".kube/config"
# What lightkube raises for files that are none: it leaves most of that to its libraries.
_UNUSABLE: Final = (
    ConfigError,
    OSError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    msgspec.MsgspecError,
    yaml.YAMLError,
)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a connection's settings come from; an empty path is the Pod's own service account."""

    path: str
    named_by: str


def find_source(flag: str, environment: Mapping[str, str], home: Path) -> Source:
    """The kubeconfig that counts: the flag's, KUBECONFIG's, the Pod's own account, the one in the home folder.

    Of several paths in KUBECONFIG the first that exists counts; they are not merged.

    Raises:
        ConfigurationError: There is none.
    """
    if flag:
        return Source(flag, "--kubeconfig")
    if environment.get(_VARIABLE):
        paths = [path for path in environment[_VARIABLE].split(os.pathsep) if path]
        return Source(next((path for path in paths if Path(path).exists()), paths[0]), _VARIABLE)
    if environment.get(_IN_CLUSTER) and Path(SERVICE_ACCOUNT).is_dir():
        return Source("", "the Pod's service account")
    if (home / _HOME).exists():
        return Source(str(home / _HOME), "the home folder")
    raise ConfigurationError(
        "no API server is known: no --kubeconfig, no KUBECONFIG, not in a Pod, no ~/.kube/config",
        hint="name a kubeconfig with --kubeconfig, or let the webhook read manifests with --service-accounts FILE|DIR",
    )


def load_config(source: Source, environment: Mapping[str, str]) -> SingleConfig:
    """The connection that a kubeconfig's current context names.

    Raises:
        ConfigurationError: It cannot be read, or its context is incomplete.
    """
    where = source.path or source.named_by
    try:
        if not source.path:
            found = KubeConfig.from_service_account().get()
        else:
            found = KubeConfig.from_file(source.path).get(environment.get("AZWI_KUBE_CONTEXT") or None)
    except _UNUSABLE as problem:
        words = " ".join(str(problem).split()) or type(problem).__name__
        raise ConfigurationError(f"{where}, named by {source.named_by}, cannot be used: {words}") from problem
    if found is None or found.cluster is None:
        raise ConfigurationError(
            f"{where}, named by {source.named_by}, has no current context", hint="kubectl config use-context sets one"
        )
    return found


def connect(config: SingleConfig) -> httpx2.AsyncClient:
    """A client of the API server, to be closed by whoever asked for it; its base URL is the server's.

    Raises:
        ConfigurationError: Certificates or credentials cannot be used.
    """
    plugin = config.user.exec if config.user else None
    if config.user is not None and plugin is not None:
        config = config._replace(user=msgspec.structs.replace(config.user, exec=None))
    try:
        client = AsyncClient(config, ConnectionParams(timeout=httpx2.Timeout(TIMEOUT)))
    except (ConfigError, OSError, ValueError) as problem:
        words = " ".join(str(problem).split())
        raise ConfigurationError(f"the API server {config.cluster.server} cannot be used: {words}") from problem
    if plugin is not None:
        client.auth = ExecPlugin(plugin, config.cluster)
    client.headers["User-Agent"] = user_agent("webhook")
    return client
