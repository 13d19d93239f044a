"""Pods of users, and what they got."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import jwt
from world import PYTHON

from entra import ACCOUNT, ALIASES, CLIENT, TENANT

if TYPE_CHECKING:
    from collections.abc import Callable

    from world import World

AUDIENCE = "https://vault.azure.net"
READ = "import sys; sys.stdout.write(open('/var/run/secrets/azure/wi/token/azure-identity-token').read())"
USE = {"azure.workload.identity/use": "true"}
PROXY = {"azure.workload.identity/inject-proxy-sidecar": "true"}
PLAIN_PROXY = PROXY | {"azure.workload.identity/proxy-native-sidecar": "false"}
ENVIRONMENT = PROXY | {"azure.workload.identity/proxy-mode": "environment"}
# What Pod Security "restricted" asks for.
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "readOnlyRootFilesystem": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def asking(name: str, mode: str, *more: str, **members: Any) -> dict[str, Any]:  # noqa: ANN401
    """A container that asks for tokens."""
    return {"name": name, "image": PYTHON, "args": ["/sdk/ask.py", mode, *more]} | members


def template(annotations: dict[str, str], *containers: dict[str, Any], **spec: Any) -> dict[str, Any]:  # noqa: ANN401
    """Metadata and spec of a labelled Pod."""
    base = {
        "serviceAccountName": ACCOUNT,
        "hostAliases": ALIASES,
        "terminationGracePeriodSeconds": 5,
        "containers": list(containers),
    }
    return {"metadata": {"labels": {"app": "orders"} | USE, "annotations": annotations}, "spec": base | spec}


def pod(name: str, namespace: str, made: dict[str, Any]) -> dict[str, Any]:
    """A Pod of a template."""
    metadata = {"name": name, "namespace": namespace} | made["metadata"]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": made["spec"]}


def answers(world: World, namespace: str, of: str, container: str) -> list[dict[str, Any]]:
    """What a container has printed so far."""
    run = world.node.kubectl("-n", namespace, "logs", of, "-c", container, check=False)
    return [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]


def wait(condition: Callable[[], Any], seconds: float = 60) -> Any:  # noqa: ANN401
    """What the condition gives once it gives something."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"nothing came within the time: {found}"
        time.sleep(0.2)
    return found


def read_token(world: World, name: str) -> str:
    """The service account token in a Pod of the shop; empty where it cannot be read now."""
    return world.node.kubectl("-n", "shop", "exec", name, "-c", "app", "--", "python3", "-c", READ, check=False).stdout


def first_token(world: World, namespace: str, of: str, container: str = "app") -> dict[str, Any]:
    """The claims of the first token that a container printed, verified with Entra's keys."""
    try:
        said = wait(lambda: [one for one in answers(world, namespace, of, container) if "token" in one])
    except AssertionError as nothing:
        told = world.node.kubectl("-n", namespace, "describe", of, check=False).stdout[-3000:]
        raise AssertionError(f"no token: {answers(world, namespace, of, container)[-2:]}\n{told}") from nothing
    return verify(world, said[0]["token"])


def verify(world: World, token: str) -> dict[str, Any]:
    """A token's claims: Entra's signature, for the vault, and for our application."""
    keys = jwt.PyJWKSet.from_dict(world.entra.keys())
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims: dict[str, Any] = jwt.decode(token, key.key, algorithms=["RS256"], audience=AUDIENCE)
    assert (CLIENT, TENANT) == (claims["appid"], claims["tid"])
    return claims
