"""Views of the few fields of a v1 Pod that injection reads; everything else is skipped while decoding.

A view is never written back: the Pod stays the document that came in, and changes only by a patch, so what is not
listed here cannot be lost. Like the API's own types, every field may be absent or null. Source: Kubernetes API v1.
"""

from __future__ import annotations

from typing import Any

import msgspec

from azwi.contract import PROXY_CONTAINER, PROXY_INIT_CONTAINER

JsonObject = dict[str, Any]


class View(msgspec.Struct, rename="camel", gc=False):
    """The base of all views: camelCase on the wire, unknown fields ignored."""


class EnvVar(View):
    """One entry of a container's `env`."""

    name: str | None = None
    value: str | None = None


class VolumeMount(View):
    """One entry of a container's `volumeMounts`."""

    name: str | None = None
    mount_path: str | None = None
    sub_path: str | None = None
    sub_path_expr: str | None = None


class ContainerPort(View):
    """One entry of a container's `ports`."""

    container_port: int | None = None


class Container(View):
    """A container or an init container."""

    name: str | None = None
    env: list[EnvVar] | None = None
    volume_mounts: list[VolumeMount] | None = None
    ports: list[ContainerPort] | None = None
    command: list[str] | None = None
    args: list[str] | None = None
    restart_policy: str | None = None


class TokenSource(View):
    """A projected service account token."""

    path: str | None = None
    audience: str | None = None
    expiration_seconds: int | None = None


class Source(View):
    """A source of a projected volume; what may hold a CA stays a whole document, since it is compared as one."""

    service_account_token: TokenSource | None = None
    config_map: JsonObject | None = None
    cluster_trust_bundle: JsonObject | None = None


class Projected(View):
    """A projected volume."""

    sources: list[Source] | None = None


class Volume(View):
    """One entry of `spec.volumes`; `projected` is set for projected volumes only."""

    name: str | None = None
    projected: Projected | None = None


class PodOS(View):
    """`spec.os`."""

    name: str | None = None


class PodSpec(View):
    """`spec`."""

    service_account_name: str | None = None
    host_network: bool | None = None
    init_containers: list[Container] | None = None
    containers: list[Container] | None = None
    volumes: list[Volume] | None = None
    node_selector: dict[str, str] | None = None
    os: PodOS | None = None
    termination_grace_period_seconds: int | None = None
    restart_policy: str | None = None


class OwnerReference(View):
    """One entry of `metadata.ownerReferences`."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool | None = None


class PodMetadata(View):
    """`metadata`."""

    annotations: dict[str, str] | None = None
    owner_references: list[OwnerReference] | None = None


class Pod(View):
    """A v1 Pod; `api_version` and `kind` may be absent (R 2.2)."""

    api_version: str | None = None
    kind: str | None = None
    metadata: PodMetadata | None = None
    spec: PodSpec | None = None

    @property
    def annotations(self) -> dict[str, str]:
        """The Pod's annotations; empty where there are none."""
        return (self.metadata and self.metadata.annotations) or {}

    @property
    def service_account_name(self) -> str:
        """The name of its service account; `default` where the Pod names none (R 2.1)."""
        return (self.spec and self.spec.service_account_name) or "default"


EMPTY_SPEC = PodSpec()


def choose_owner(references: list[OwnerReference] | None) -> OwnerReference | None:
    """Who made a Pod: its controller, else the first owner; None where nobody did, or a node (a mirror of a file)."""
    listed = references or []
    owner = next((one for one in listed if one.controller), listed[0] if listed else None)
    return None if owner is None or owner.kind == "Node" else owner


def is_windows(spec: PodSpec) -> bool:
    """Whether the Pod says that it runs on Windows, by `os` or by the node selector (D 13)."""
    return declares_windows(spec) or (spec.node_selector or {}).get("kubernetes.io/os") == "windows"


def declares_windows(spec: PodSpec) -> bool:
    """Whether `spec.os.name` is windows."""
    return spec.os is not None and spec.os.name == "windows"


def is_native_sidecar(container: Container) -> bool:
    """Whether an init container keeps running beside the others."""
    return container.restart_policy == "Always"


def is_ours(container: Container) -> bool:
    """Whether a container is one of the two that we inject, by its reserved name."""
    return container.name in (PROXY_CONTAINER, PROXY_INIT_CONTAINER)
