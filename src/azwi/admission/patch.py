"""An injection as a JSON Patch (RFC 6902): additions, and updates of what is ours.

Containers change in place first and the new ones are put in front last, so every path counts the Pod as it came in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from azwi.admission.injection import CONTAINERS, INIT_CONTAINERS, ContainerChange, Injection
from azwi.admission.pod import EMPTY_SPEC, JsonObject, Pod
from azwi.contract import INJECTED_ANNOTATION

if TYPE_CHECKING:
    from azwi.admission.token_volume import VolumeUpdate

Operation = dict[str, Any]

_encode = msgspec.json.Encoder().encode


def render_patch(pod: Pod, injection: Injection) -> list[Operation]:
    """The operations; none for an empty injection."""
    if injection.empty:
        return []
    spec = pod.spec or EMPTY_SPEC
    operations = [] if pod.spec is not None else [_add("/spec", {})]
    for change in injection.changes:
        operations += _render_change(change)
    operations += _prepend(f"/spec/{INIT_CONTAINERS}", injection.init_containers, exists=bool(spec.init_containers))
    operations += _prepend(f"/spec/{CONTAINERS}", injection.containers, exists=bool(spec.containers))
    for update in injection.volume_updates:
        operations += _render_update(update)
    operations += _append("/spec/volumes", injection.volumes, exists=bool(spec.volumes))
    if injection.stamp is not None:
        operations += _annotate(pod, injection.stamp)
    return operations


def encode_patch(operations: list[Operation]) -> bytes:
    """The patch's JSON; empty where there is nothing to do."""
    return _encode(operations) if operations else b""


def escape(name: str) -> str:
    """A member's name as a part of a JSON Pointer (RFC 6901 section 3)."""
    return name.replace("~", "~0").replace("/", "~1")


def _add(path: str, value: object) -> Operation:
    return {"op": "add", "path": path, "value": value}


def _prepend(path: str, values: list[JsonObject], *, exists: bool) -> list[Operation]:
    if not exists:
        return [_add(path, values)] if values else []
    return [_add(f"{path}/{place}", value) for place, value in enumerate(values)]


def _append(path: str, values: list[JsonObject], *, exists: bool) -> list[Operation]:
    if not exists:
        return [_add(path, values)] if values else []
    return [_add(f"{path}/-", value) for value in values]


def _render_change(change: ContainerChange) -> list[Operation]:
    path = f"/spec/{change.kind}/{change.index}"
    return _prepend(f"{path}/env", change.variables, exists=change.has_variables) + _append(
        f"{path}/volumeMounts", change.mounts, exists=change.has_mounts
    )


def _render_update(update: VolumeUpdate) -> list[Operation]:
    path = f"/spec/volumes/{update.index}/projected/sources"
    operations = [
        _add(f"{path}/{source}/serviceAccountToken/{member}", value) for source, member, value in update.members
    ]
    operations += [
        {"op": "replace", "path": f"{path}/{source}", "value": document} for source, document in update.replaced
    ]
    return operations + _append(path, update.added, exists=not update.whole)


def _annotate(pod: Pod, stamp: str) -> list[Operation]:
    operations = [] if pod.metadata is not None else [_add("/metadata", {})]
    if pod.metadata is None or pod.metadata.annotations is None:
        return [*operations, _add("/metadata/annotations", {INJECTED_ANNOTATION: stamp})]
    return [_add(f"/metadata/annotations/{escape(INJECTED_ANNOTATION)}", stamp)]
