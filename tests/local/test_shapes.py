"""What of a manifest a local run relies on: a wrong one is told with its field, before anything is started."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azwi.errors import ManifestError
from azwi.local.shapes import check_document, check_pod


def pod(container: dict[str, Any] | None = None, **spec: object) -> dict[str, Any]:
    """A Pod with one container."""
    return {"kind": "Pod", "spec": {"containers": [{"name": "app", **(container or {})}], **spec}}


def projected(path: str, name: str = "v") -> dict[str, Any]:
    """A Pod with a token at that path of a volume."""
    return pod(volumes=[{"name": name, "projected": {"sources": [{"serviceAccountToken": {"path": path}}]}}])


@pytest.mark.parametrize(
    ("field", "document"),
    [
        ("metadata", {"metadata": 7, **pod()}),
        (r"metadata\.labels", {"metadata": {"labels": ["a"]}, **pod()}),
        (r"metadata\.annotations\[\.\.\.\]", {"metadata": {"annotations": {"a": 1}}, **pod()}),
        (r"metadata\.name", {"metadata": {"name": "a/b"}, **pod()}),
        (r"metadata\.name", {"metadata": {"name": "a" * 254}, **pod()}),
        (r"metadata\.namespace", {"metadata": {"namespace": "../../x"}, **pod()}),
        ("the document: .*`spec`", {}),
        (r"spec\.containers\[0\]", {"spec": {"containers": [7]}}),
        (r"spec\.containers\[0\]: .*`name`", {"spec": {"containers": [{"image": "x"}]}}),
        (r"spec\.serviceAccountName", pod(serviceAccountName="../../x y")),
        (r"spec\.serviceAccountName", pod(serviceAccountName=["x"])),
        (r"\.env\[0\]", pod({"env": [7]})),
        (r"\.env\[0\]: .*`name`", pod({"env": [{"value": "x"}]})),
        (r"\.env\[0\]\.name", pod({"env": [{"name": "A=B"}]})),
        (r"\.env\[0\]\.name", pod({"env": [{"name": ""}]})),
        (r"\.env\[0\]\.value", pod({"env": [{"name": "A", "value": "a\0b"}]})),
        (r"\.env\[0\]\.valueFrom", pod({"env": [{"name": "A", "valueFrom": "x"}]})),
        (r"\.valueFrom\.fieldRef", pod({"env": [{"name": "A", "valueFrom": {"fieldRef": "x"}}]})),
        (r"\.valueFrom\.secretKeyRef", pod({"env": [{"name": "A", "valueFrom": {"secretKeyRef": ["x"]}}]})),
        (r"\.envFrom\[0\]", pod({"envFrom": [7]})),
        (r"\.envFrom\[0\]\.configMapRef", pod({"envFrom": [{"configMapRef": "x"}]})),
        (r"\.volumeMounts\[0\]: .*`mountPath`", pod({"volumeMounts": [{"name": "v"}]})),
        (r"\.command\[0\]", pod({"command": ["a\0b"]})),
        (r"\.workingDir", pod({"workingDir": 7})),
        (r"spec\.volumes\[0\]: .*`name`", pod(volumes=[{}])),
        (r"spec\.volumes\[0\]\.name", projected("t", "../../x")),
        (r"serviceAccountToken\.path", projected("../../x")),
        (r"serviceAccountToken\.path", projected("a/../../x")),
        (r"serviceAccountToken\.path", projected("a/..")),
        (r"serviceAccountToken\.path: must be a relative path without \.\.$", projected("/etc/x")),
        (r"serviceAccountToken\.path", projected("")),
    ],
)
def test_what_the_api_server_would_refuse_is_told(field: str, document: dict[str, Any]) -> None:
    """A wrong type, a name that is none, a path that leaves its volume: file and field."""
    with pytest.raises(ManifestError, match=rf"^pods\.yaml: .*{field}"):
        check_pod(document, "pods.yaml")


@pytest.mark.parametrize(
    "document",
    [
        pod({"env": None, "command": None, "env.unknown": 7}, volumes=None),
        {"metadata": None, **pod()},
        projected("a/..b/c"),
        pod({"env": [{"name": "A.B-C", "valueFrom": {"fileKeyRef": {"path": "x"}}}]}),
    ],
)
def test_what_the_api_server_takes_is_taken(document: dict[str, Any]) -> None:
    """Absent, null and unknown members, and names that look odd and are none."""
    check_pod(document, "pods.yaml")


def test_metadata_is_an_object() -> None:
    """Of manifests of other kinds nothing else is checked."""
    check_document({"kind": "ConfigMap", "spec": 7}, "f")
    with pytest.raises(ManifestError, match=r"^f: metadata: expected `object"):
        check_document({"kind": "ConfigMap", "metadata": 7}, "f")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)))
def test_anything_is_an_error_and_no_exception(part: object) -> None:
    """Whatever stands where an object should be."""
    for document in (part, pod() | {"metadata": part}, pod({"env": part}), pod(volumes=part)):
        with contextlib.suppress(ManifestError):
            check_pod(document, "f")
