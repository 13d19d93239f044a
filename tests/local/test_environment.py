"""A container's variables and command, as the kubelet would make them."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from azwi.local.environment import Sources, container_command, expand, find_sources, resolve_environment

POD: dict[str, Any] = {
    "metadata": {"name": "orders", "namespace": "shop", "labels": {"app": "o"}, "annotations": {"a/b": "c"}},
    "spec": {"serviceAccountName": "orders", "containers": []},
}


def encoded(text: bytes) -> str:
    """As a Secret has it."""
    return base64.b64encode(text).decode()


DOCUMENTS: list[dict[str, Any]] = [
    {"kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "shop"}, "data": {"MODE": "fast", "n": 1}},
    {"kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"MODE": "of the namespace default"}},
    {
        "kind": "Secret",
        "metadata": {"name": "keys", "namespace": "shop"},
        "data": {"KEY": encoded(b"secret"), "BINARY": encoded(b"\xff"), "BROKEN": "%"},
        "stringData": {"PLAIN": "text"},
    },
    {"kind": "ConfigMap", "metadata": {"name": "empty", "namespace": "shop"}, "data": None},
    {"kind": "Pod"},
]
SOURCES = find_sources(DOCUMENTS)


def resolve(**container: Any) -> tuple[dict[str, str], list[str]]:  # noqa: ANN401
    """Variables and what is missing."""
    found = resolve_environment(container, POD, SOURCES, {"token": "/private/token"})
    return found.variables, found.missing


def value_from(name: str, **source: object) -> dict[str, object]:
    """One variable by reference."""
    return {"name": name, "valueFrom": source}


def test_values_refer_to_those_before() -> None:
    """`$(NAME)` stands for a variable before it; unknown ones and `$$` stay as Kubernetes has them."""
    env = [
        {"name": "A", "value": "1"},
        {"name": "B", "value": "$(A)-$(C)-$$(A)-$A-$"},
        {"name": "C", "value": None},
        {"name": "A", "value": "$(A)2"},
    ]
    assert ({"A": "12", "B": "1-$(C)-$(A)-$A-$", "C": ""}, []) == resolve(env=env)


@pytest.mark.parametrize(
    ("expected", "path"),
    [
        ("orders", "metadata.name"),
        ("shop", "metadata.namespace"),
        ("00000000-0000-0000-0000-000000000000", "metadata.uid"),
        ("o", "metadata.labels['app']"),
        ("", "metadata.labels['none']"),
        ("c", "metadata.annotations['a/b']"),
        ("orders", "spec.serviceAccountName"),
        ("emulated-node", "spec.nodeName"),
        ("127.0.0.1", "status.podIP"),
        ("127.0.0.1", "status.hostIP"),
    ],
)
def test_fields_of_the_pod(expected: str, path: str) -> None:
    """The downward API, with loopback for addresses."""
    assert ({"A": expected}, []) == resolve(env=[value_from("A", fieldRef={"fieldPath": path})])


def test_config_maps_and_secrets_of_the_manifests() -> None:
    """By key and as a whole, of the Pod's namespace; `env` wins over `envFrom`."""
    variables, missing = resolve(
        envFrom=[{"configMapRef": {"name": "settings"}, "prefix": "P_"}, {"secretRef": {"name": "keys"}}],
        env=[
            value_from("A", configMapKeyRef={"name": "settings", "key": "MODE"}),
            value_from("KEY", secretKeyRef={"name": "keys", "key": "PLAIN"}),
        ],
    )
    assert {"P_MODE": "fast", "KEY": "text", "PLAIN": "text", "A": "fast"} == variables
    assert [] == missing


def test_what_cannot_be_had_is_named() -> None:
    """A missing source is told unless it is optional, and the variable is left out."""
    variables, missing = resolve(
        envFrom=[
            {"configMapRef": {"name": "none"}},
            {"secretRef": {"name": "none", "optional": True}},
            {"secretRef": None},
        ],
        env=[
            value_from("A", secretKeyRef={"name": "keys", "key": "BINARY"}),
            value_from("B", secretKeyRef={"name": "keys", "key": "BROKEN", "optional": True}),
            value_from("C", resourceFieldRef={"resource": "limits.cpu"}),
            value_from("D", fieldRef={"fieldPath": "status.phase"}),
            value_from("E"),
            value_from("F", secretKeyRef=None),
        ],
    )
    assert {} == variables
    assert [
        "all of configMap none",
        "all of secret ",
        "A (secretKeyRef keys BINARY)",
        "C (resourceFieldRef limits.cpu)",
        "D (fieldRef status.phase)",
        "E ()",
        "F (secretKeyRef)",
    ] == missing


def test_paths_follow_their_volume() -> None:
    """A path below a mount is one below the volume's folder here; others stay."""
    mounts = [{"name": "token", "mountPath": "/var/run/t/"}, {"name": "other", "mountPath": "/var/run/o"}]
    env = [{"name": "T", "value": "/var/run/t/x/y"}, {"name": "O", "value": "/var/run/o/x"}]
    assert {"T": "/private/token/x/y", "O": "/var/run/o/x"} == resolve(env=env, volumeMounts=mounts)[0]


def test_the_command_is_expanded() -> None:
    """Command and arguments with their references; without a command the image would say it."""
    container = {"command": ["sh", "-c"], "args": ["echo $(A) $(B)"]}
    assert ["sh", "-c", "echo 1 $(B)"] == container_command(container, {"A": "1"})
    assert [] == container_command({"args": ["x"]}, {})
    assert "$(A" == expand("$(A", {"A": "1"})
    assert Sources() == find_sources([])
