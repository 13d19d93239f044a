"""A container's variables and command as the kubelet would make them, as far as one machine can; no I/O.

Sources: kubernetes.io/docs, "Define Dependent Environment Variables", "Expose Pod Information to Containers Through
Environment Variables" and "Configure a Pod to Use a ConfigMap".
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

JsonObject = dict[str, Any]

_REFERENCE: Final = re.compile(r"\$(\$|\(([^)]*)\))")
_SUBSCRIPT: Final = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")
_LOOPBACK: Final = "127.0.0.1"
_NODE: Final = "emulated-node"


@dataclass(frozen=True, slots=True)
class Sources:
    """ConfigMaps and Secrets of the manifests: the values of each, by namespace and name."""

    config_maps: Mapping[tuple[str, str], Mapping[str, str]] = field(default_factory=dict)
    secrets: Mapping[tuple[str, str], Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Resolved:
    """A container's variables, and what of them could not be had here."""

    variables: dict[str, str]
    missing: list[str]


def find_sources(documents: Iterable[JsonObject]) -> Sources:
    """What the ConfigMaps and Secrets among the documents hold; what is no text is left out."""
    config_maps, secrets = {}, {}
    for document in documents:
        metadata = document.get("metadata") or {}
        key = (str(metadata.get("namespace") or "default"), str(metadata.get("name", "")))
        if document.get("kind") == "ConfigMap":
            config_maps[key] = _texts(document.get("data"))
        elif document.get("kind") == "Secret":
            encoded = {name: _decode(value) for name, value in _texts(document.get("data")).items()}
            plain = {name: value for name, value in encoded.items() if value is not None}
            secrets[key] = plain | _texts(document.get("stringData"))
    return Sources(config_maps, secrets)


def _texts(data: object) -> dict[str, str]:
    pairs = data.items() if isinstance(data, dict) else ()
    return {str(name): value for name, value in pairs if isinstance(value, str)}


def _decode(value: str) -> str | None:
    try:
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None


def resolve_environment(
    container: JsonObject, pod: JsonObject, sources: Sources, volumes: Mapping[str, str]
) -> Resolved:
    """A container's variables, `envFrom` first, references expanded, paths moved to where the volumes are here.

    Args:
        container: With `env`, `envFrom` and `volumeMounts`.
        pod: Whose fields are referred to.
        sources: ConfigMaps and Secrets.
        volumes: The folder of each volume on this machine, by name.
    """
    variables: dict[str, str] = {}
    missing: list[str] = []
    namespace = str(pod["metadata"].get("namespace") or "default")
    for origin in container.get("envFrom") or ():
        variables |= _all_of(origin, namespace, sources, missing)
    folders = mounted_folders(container, volumes)
    for variable in container.get("env") or ():
        name = str(variable["name"])
        if (source := variable.get("valueFrom")) is not None:
            value = _read_source(source, pod, namespace, sources)
            if value is None and not _is_optional(source):
                missing.append(f"{name} ({_describe(source)})")
        else:
            value = expand(str(variable.get("value") or ""), variables)
        if value is not None:
            variables[name] = move_path(value, folders)
    return Resolved(variables, missing)


def mounted_folders(container: JsonObject, volumes: Mapping[str, str]) -> dict[str, str]:
    """The folder here for each path at which the container mounts one of the volumes; paths end with a slash."""
    return {
        mount["mountPath"].rstrip("/") + "/": volumes[mount["name"]]
        for mount in container.get("volumeMounts") or ()
        if mount["name"] in volumes
    }


def move_path(value: str, folders: Mapping[str, str]) -> str:
    """The value, moved if it is a path below one of the mounts."""
    for path, folder in folders.items():
        if value.startswith(path):
            return f"{folder}/{value.removeprefix(path)}"
    return value


def expand(text: str, variables: Mapping[str, str]) -> str:
    """The text with `$(NAME)` replaced where the name is known, and `$$` made `$`."""

    def replaced(match: re.Match[str]) -> str:
        return "$" if match[1] == "$" else variables.get(match[2], match[0])

    return _REFERENCE.sub(replaced, text)


def container_command(container: JsonObject, variables: Mapping[str, str]) -> list[str]:
    """The container's own command and arguments; empty where the image would say them."""
    if not container.get("command"):
        return []
    return [expand(str(part), variables) for part in (*container["command"], *(container.get("args") or ()))]


# --- Where a value comes from ---------------------------------------------------------------------------


def _all_of(origin: JsonObject, namespace: str, sources: Sources, missing: list[str]) -> dict[str, str]:
    kind, known = ("configMapRef", sources.config_maps) if "configMapRef" in origin else ("secretRef", sources.secrets)
    reference = origin.get(kind) or {}
    name = str(reference.get("name", ""))
    found = known.get((namespace, name))
    if found is None:
        if not reference.get("optional"):
            missing.append(f"all of {kind.removesuffix('Ref')} {name}")
        return {}
    return {str(origin.get("prefix") or "") + key: value for key, value in found.items()}


def _read_source(source: JsonObject, pod: JsonObject, namespace: str, sources: Sources) -> str | None:
    if "fieldRef" in source:
        return _read_field(str(source["fieldRef"].get("fieldPath", "")), pod)
    kind, known = (
        ("configMapKeyRef", sources.config_maps) if "configMapKeyRef" in source else ("secretKeyRef", sources.secrets)
    )
    reference = source.get(kind) or {}
    return known.get((namespace, str(reference.get("name", ""))), {}).get(str(reference.get("key", "")))


def _read_field(path: str, pod: JsonObject) -> str | None:
    """A field of the Pod; addresses are loopback."""
    metadata, spec = pod["metadata"], pod["spec"]
    subscript = _SUBSCRIPT.fullmatch(path)
    if subscript:
        return str((metadata.get(subscript[1]) or {}).get(subscript[2], ""))
    fixed = {
        "metadata.name": metadata.get("name"),
        "metadata.namespace": metadata.get("namespace") or "default",
        "metadata.uid": metadata.get("uid", "00000000-0000-0000-0000-000000000000"),
        "spec.nodeName": spec.get("nodeName", _NODE),
        "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
        "status.podIP": _LOOPBACK,
        "status.podIPs": _LOOPBACK,
        "status.hostIP": _LOOPBACK,
        "status.hostIPs": _LOOPBACK,
    }
    value = fixed.get(path)
    return None if value is None else str(value)


def _is_optional(source: JsonObject) -> bool:
    return any(isinstance(reference, dict) and reference.get("optional") is True for reference in source.values())


def _describe(source: JsonObject) -> str:
    (kind, reference), *_ = [*source.items(), ("", {})]
    if not isinstance(reference, dict):
        return str(kind)
    words = [str(reference[key]) for key in ("name", "key", "fieldPath", "resource") if key in reference]
    return " ".join([str(kind), *words])
