"""The Pods that Kubernetes would make of manifests: a Pod itself, or the template of a workload; no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

from azwi.contract import USE_LABEL
from azwi.errors import ManifestError

MAX_NODES: Final = 200_000  # of one document with its aliases followed; more is a bomb, not a manifest

_TEMPLATES: Final = {
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "ReplicationController": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}


@dataclass(frozen=True, slots=True)
class PodTemplate:
    """What becomes a Pod: `document` has its metadata and spec, and is a part of the manifest it came from."""

    workload: str  # such as Deployment shop/orders
    namespace: str
    document: MutableMapping[str, Any]

    @property
    def service_account(self) -> str:
        """The name of the service account that its Pods run as."""
        spec = self.document.get("spec")
        return str((spec.get("serviceAccountName") if isinstance(spec, Mapping) else None) or "default")

    @property
    def containers(self) -> list[str]:
        """The names of its containers."""
        spec = self.document.get("spec")
        found = spec.get("containers") if isinstance(spec, Mapping) else None
        return [str(one.get("name")) for one in found or () if isinstance(one, Mapping)]

    @property
    def labelled(self) -> bool:
        """Whether the API server would send it to the webhook."""
        metadata = self.document.get("metadata")
        labels = metadata.get("labels") if isinstance(metadata, Mapping) else None
        return isinstance(labels, Mapping) and labels.get(USE_LABEL) == "true"


def find_templates(document: object, where: str) -> Iterator[PodTemplate]:
    """The Pod templates in a document, also in the items of a List; none in other kinds.

    Args:
        document: As a YAML or JSON parser gives it.
        where: File and place, for errors.

    Raises:
        ManifestError: It is no manifest, or a workload has no template.
    """
    if not isinstance(document, MutableMapping):
        raise ManifestError(f"{where} is a {type(document).__name__}, not an object with apiVersion and kind")
    kind = document.get("kind")
    if not isinstance(kind, str) or not kind:
        raise ManifestError(f"{where} has no kind", hint="each document needs apiVersion and kind")
    items = document.get("items")
    if kind.endswith("List") and isinstance(items, list):
        for number, item in enumerate(items, 1):
            yield from find_templates(item, f"{where}, item {number}")
    elif kind == "Pod":
        yield _template(kind, document, document)
    elif kind in _TEMPLATES:
        yield _template(kind, document, _descend(document, _TEMPLATES[kind], f"{where}, {kind}"))


def _template(kind: str, document: Mapping[str, Any], pod: MutableMapping[str, Any]) -> PodTemplate:
    metadata = document.get("metadata")
    named = metadata if isinstance(metadata, Mapping) else {}
    namespace = str(named.get("namespace") or "default")
    name = named.get("name") or named.get("generateName") or ""
    return PodTemplate(f"{kind} {namespace}/{name}", namespace, pod)


def _descend(document: MutableMapping[str, Any], path: tuple[str, ...], where: str) -> MutableMapping[str, Any]:
    node: Any = document
    for name in path:
        node = node.get(name)
        if not isinstance(node, MutableMapping):
            raise ManifestError(f"{where} has no {'.'.join(path)}", hint="a workload needs its Pod template")
    found: MutableMapping[str, Any] = node
    return found


def choose_template(templates: list[PodTemplate], workload: str, container: str, where: str) -> PodTemplate:
    """The one that is meant.

    Args:
        templates: All there are.
        workload: `Deployment/orders`, or the name alone; empty for any.
        container: The name of a container it must have; empty for any.
        where: The file's name, for errors.

    Raises:
        ManifestError: None is meant, or several are.
    """
    found = [one for one in templates if _is_called(one, workload) and (not container or container in one.containers)]
    if len(found) > 1:
        found = [one for one in found if one.labelled] or found
    if len(found) == 1 and found[0].containers:
        return found[0]
    names = ", ".join(f"{one.workload} ({', '.join(one.containers)})" for one in found or templates) or "no workload"
    if not found:
        raise ManifestError(
            f"{where} has no workload {workload} with a container {container}".replace("  ", " ") + f"; it has {names}"
        )
    raise ManifestError(
        f"{where} has {names}",
        hint="say which with --workload KIND/NAME or --container NAME of one that has containers",
    )


def _is_called(template: PodTemplate, workload: str) -> bool:
    kind, _, path = template.workload.partition(" ")
    name = path.rpartition("/")[2]
    return not workload or workload.lower() in {name.lower(), f"{kind}/{name}".lower(), f"{kind}/{path}".lower()}


def make_pod(template: PodTemplate) -> dict[str, Any]:
    """A Pod as the workload's controller would make it; it shares nothing with the template but values."""
    name = template.workload.partition("/")[2] or "pod"
    name += "local" if name.endswith("-") else ""  # as the API server completes a generateName
    metadata = template.document.get("metadata") or {}
    named = {"name": name, "namespace": template.namespace}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**metadata, **named},
        "spec": dict(template.document["spec"]),
    }


def has_shared_parts(document: object, where: str) -> bool:
    """Whether a part stands in two places, as YAML's anchors and aliases make it.

    Raises:
        ManifestError: Followed through all its aliases the document is larger than any manifest.
    """
    seen: set[int] = set()
    shared, nodes, rest = False, 0, [document]
    while rest:
        node = rest.pop()
        nodes += 1
        if nodes > MAX_NODES:
            raise ManifestError(f"{where} has more than {MAX_NODES} nodes with its aliases followed")
        if isinstance(node, Mapping):
            children = list(node.values())
        elif isinstance(node, list):
            children = node
        else:
            continue
        shared = shared or id(node) in seen
        seen.add(id(node))
        rest.extend(children)
    return shared
