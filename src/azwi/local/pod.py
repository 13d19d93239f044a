"""A Pod lived through on this machine: its container's environment, its token files; no I/O.

Documents in, documents out: the review that an API server would send, the Pod after the answer, and what the kubelet
would make of it.
"""

from __future__ import annotations

import base64
import json
import uuid
from dataclasses import dataclass
from typing import Any, Final

import jsonpatch

from azwi.errors import LocalError

JsonObject = dict[str, Any]

_LIFE: Final = 3600  # seconds, of a token whose volume does not say so


@dataclass(frozen=True, slots=True)
class Admitted:
    """What the webhook answered: the Pod with its patch applied, the patch itself, and the warnings."""

    pod: JsonObject
    patch: list[JsonObject]
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class ProjectedToken:
    """A token that the kubelet keeps in a file: `path` is inside the volume."""

    volume: str
    path: str
    audience: str
    expiration: int


def render_review(pod: JsonObject) -> JsonObject:
    """The admission review of a Pod that is about to be created (admission.k8s.io/v1)."""
    kind = {"group": "", "version": "v1", "kind": "Pod"}
    resource = {"group": "", "version": "v1", "resource": "pods"}
    metadata = pod.get("metadata") or {}
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": str(uuid.uuid4()),
            "kind": kind,
            "resource": resource,
            "requestKind": kind,
            "requestResource": resource,
            "name": metadata.get("name", ""),
            "namespace": metadata.get("namespace") or "default",
            "operation": "CREATE",
            "userInfo": {"username": "kubernetes-admin"},
            "object": pod,
            "oldObject": None,
            "dryRun": False,
        },
    }


def apply_answer(pod: JsonObject, answer: JsonObject) -> Admitted:
    """The Pod as the API server would store it.

    Raises:
        LocalError: The webhook refused the Pod.
    """
    response = answer["response"]
    warnings = response.get("warnings", [])
    if not response["allowed"]:
        raise LocalError(f"the webhook refused the Pod: {response['status']['message']}")
    if "patch" not in response:
        return Admitted(pod, [], warnings)
    patch = json.loads(base64.b64decode(response["patch"]))
    return Admitted(jsonpatch.apply_patch(pod, patch), patch, warnings)


def find_container(pod: JsonObject, name: str) -> JsonObject:
    """The container or init container of that name.

    Raises:
        LocalError: There is none.
    """
    spec = pod["spec"]
    for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        if container.get("name") == name:
            found: JsonObject = container
            return found
    raise LocalError(f"the Pod has no container {name}")


def projected_tokens(pod: JsonObject) -> list[ProjectedToken]:
    """The tokens that the kubelet would mint for the Pod."""
    return [
        ProjectedToken(
            volume["name"], token["path"], token.get("audience") or "", token.get("expirationSeconds") or _LIFE
        )
        for volume in pod["spec"].get("volumes") or ()
        for source in (volume.get("projected") or {}).get("sources") or ()
        if (token := source.get("serviceAccountToken")) is not None
    ]


def render_token_request(pod: JsonObject, token: ProjectedToken) -> JsonObject:
    """What the kubelet asks the API server for (authentication.k8s.io/v1)."""
    return {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {
            "audiences": [token.audience] if token.audience else [],  # without one it is the API server's own
            "expirationSeconds": token.expiration,
            "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod["metadata"]["name"]},
        },
    }
