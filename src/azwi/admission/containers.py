"""The two containers that we inject, as documents (D 9, D 11)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from azwi.admission.settings import InitPrivilege
from azwi.contract import (
    IDENTITY_MAP_PATH,
    IDENTITY_MAP_VOLUME,
    LOCK_FILE_VARIABLE,
    PROXY_CONTAINER,
    PROXY_INIT_CONTAINER,
    PROXY_PORT_VARIABLE,
    PROXY_UID_VARIABLE,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from azwi.admission.pod import JsonObject
    from azwi.admission.settings import ProxySettings, Resources
    from azwi.admission.sidecar import ProxyRequest

# iptables-legacy wants to write its lock; /dev/shm is writable in each container, also with a read-only root.
LOCK_FILE: Final = "/dev/shm/xtables.lock"  # noqa: S108

STARTUP_PERIOD: Final = 1  # seconds
STARTUP_TIMEOUT: Final = 5  # seconds
STARTUP_FAILURES: Final = 60

_SECCOMP: Final = {"type": "RuntimeDefault"}


def render_proxy(
    request: ProxyRequest, settings: ProxySettings, variables: Sequence[JsonObject], mounts: Sequence[JsonObject]
) -> JsonObject:
    """The sidecar azwi-proxy, native or plain, with the Pod's identity."""
    flags = [f"--proxy-port={request.port}", f"--log-level={settings.log_level}"]
    probe = [PROXY_CONTAINER, flags[0], "--probe", flags[1]]
    if request.quit:
        flags.append("--allow-quit")
    if request.identity_map:
        flags.append(f"--identity-map={IDENTITY_MAP_PATH}")
        mounts = [*mounts, {"name": IDENTITY_MAP_VOLUME, "mountPath": IDENTITY_MAP_PATH, "readOnly": True}]
    if request.drain_seconds and not request.native:
        flags.append(f"--drain-seconds={request.drain_seconds}")
    container: JsonObject = {
        "name": PROXY_CONTAINER,
        "image": settings.image,
        "imagePullPolicy": settings.pull_policy,
        "command": [PROXY_CONTAINER],
        "args": flags,
        "ports": [{"containerPort": request.port}],
        "env": list(variables),
        "resources": _render_resources(request.resources),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsGroup": settings.uid,
            "runAsNonRoot": True,
            "runAsUser": settings.uid,
            "seccompProfile": _SECCOMP,
        },
        "volumeMounts": list(mounts),
    }
    if request.native:
        container["restartPolicy"] = "Always"
        container["startupProbe"] = {
            "exec": {"command": probe},
            "periodSeconds": STARTUP_PERIOD,
            "timeoutSeconds": STARTUP_TIMEOUT,
            "failureThreshold": STARTUP_FAILURES,
        }
    else:
        container["lifecycle"] = {"postStart": {"exec": {"command": probe}}}
    return container


def render_proxy_init(request: ProxyRequest, settings: ProxySettings) -> JsonObject:
    """The init container azwi-proxy-init. It gets no token and no identity: it needs neither."""
    variables = [
        {"name": PROXY_PORT_VARIABLE, "value": str(request.port)},
        {"name": PROXY_UID_VARIABLE, "value": str(settings.uid)},
    ]
    if settings.init_privilege is InitPrivilege.LEGACY:
        variables.append({"name": LOCK_FILE_VARIABLE, "value": LOCK_FILE})
    return {
        "name": PROXY_INIT_CONTAINER,
        "image": settings.init_image,
        "imagePullPolicy": settings.pull_policy,
        "command": [PROXY_INIT_CONTAINER],
        "env": variables,
        "resources": _render_resources(request.init_resources),
        "securityContext": _init_security_context(settings.init_privilege),
    }


def render_identity_map(request: ProxyRequest) -> JsonObject:
    """The volume of the identity map that the sidecar mounts."""
    return {"name": IDENTITY_MAP_VOLUME, "configMap": {"name": request.identity_map}}


def _init_security_context(privilege: InitPrivilege) -> JsonObject:
    if privilege is InitPrivilege.PRIVILEGED:
        return {
            "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
            "privileged": True,
            "runAsNonRoot": False,
            "runAsUser": 0,
        }
    added = ["NET_ADMIN"] if privilege is InitPrivilege.NFT else ["NET_ADMIN", "NET_RAW"]
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"add": added, "drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": False,
        "runAsUser": 0,
        "seccompProfile": _SECCOMP,
    }


def _render_resources(resources: Resources) -> JsonObject:
    requests = {"cpu": resources.cpu_request, "memory": resources.memory_request}
    limits = {"cpu": resources.cpu_limit, "memory": resources.memory_limit}
    rendered: JsonObject = {}
    for kind, amounts in (("requests", requests), ("limits", limits)):
        stated = {name: amount for name, amount in amounts.items() if amount}
        if stated:
            rendered[kind] = stated
    return rendered
