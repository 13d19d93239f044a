"""Microsoft Entra on the node: the emulator in a Pod behind a ClusterIP, and a metadata service on the node itself."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from node import METADATA, Node

if TYPE_CHECKING:
    from collections.abc import Iterator

AUTHORITY = "10.96.0.50"  # the ClusterIP that login.microsoftonline.com resolves to in Pods
TENANT = "11111111-1111-1111-1111-111111111111"
CLIENT = "22222222-2222-2222-2222-222222222222"
NODES_OWN = "99999999-9999-9999-9999-999999999999"  # the node's identity, which no Pod with the proxy may get
NAMESPACES = ("shop", "restricted", "quota", "annotated")
ACCOUNT = "orders"
ALIASES = [{"ip": AUTHORITY, "hostnames": ["login.microsoftonline.com"]}]
AZWI = Path(sys.executable).with_name("azwi")

_CREDENTIALS = [
    {
        "name": namespace,
        "issuer": Node.issuer,
        "subject": f"system:serviceaccount:{namespace}:{ACCOUNT}",
    }
    for namespace in NAMESPACES
]
STATE: dict[str, Any] = {
    "tenants": [{"id": TENANT, "applications": [{"clientId": CLIENT, "federatedCredentials": _CREDENTIALS}]}]
}
NODE_STATE: dict[str, Any] = {
    "tenants": [{"id": TENANT, "applications": [], "managedIdentities": [{"name": "node", "clientId": NODES_OWN}]}]
}
# The one service account that it verifies tokens with is its trust in the API server.
_TRUST = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
_POD = {
    "securityContext": {
        "runAsUser": 1501,
        "runAsGroup": 1501,
        "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}],
    },
    "hostAliases": [{"ip": "10.96.0.1", "hostnames": ["kubernetes.default.svc"]}],
    "terminationGracePeriodSeconds": 1,
    "containers": [
        {
            "name": "emulator",
            "command": ["azwi", "emulator", "--state=/state/entra.yaml", "--dir=/run/entra"],
            "args": ["--host=0.0.0.0", "--port=443", "--name=login.microsoftonline.com"],
            "env": [{"name": "SSL_CERT_FILE", "value": _TRUST}],
            "volumeMounts": [{"name": "state", "mountPath": "/state"}, {"name": "run", "mountPath": "/run/entra"}],
            "readinessProbe": {"tcpSocket": {"port": 443}, "periodSeconds": 1},
        }
    ],
    "volumes": [{"name": "state", "configMap": {"name": "state"}}, {"name": "run", "emptyDir": {}}],
}


class Entra:
    """The emulator in its Pod, as tests see it."""

    def __init__(self, node: Node, image: str) -> None:
        self._node = node
        labels = {"app": "entra"}
        pod = json.loads(json.dumps(_POD))
        pod["containers"][0]["image"] = image
        node.kubectl("create", "namespace", "entra")
        node.apply(
            manifest("v1", "ConfigMap", "state", "entra", data={"entra.yaml": yaml.safe_dump(STATE)}),
            manifest("v1", "Pod", "entra", "entra", labels=labels, spec=pod),
            manifest(
                "v1",
                "Service",
                "entra",
                "entra",
                spec={"clusterIP": AUTHORITY, "selector": labels, "ports": [{"port": 443}]},
            ),
        )
        node.kubectl("-n", "entra", "wait", "pod/entra", "--for=condition=Ready", "--timeout=55s")
        read = "import sys; sys.stdout.write(open('/run/entra/ca.crt').read())"
        self.authority = node.kubectl("-n", "entra", "exec", "entra", "--", "python3", "-c", read).stdout
        self._ca = node.folder / "entra.crt"
        self._ca.write_text(self.authority)

    def _curl(self, path: str, *more: str) -> str:
        resolve = f"login.microsoftonline.com:443:{AUTHORITY}"
        url = f"https://login.microsoftonline.com/{path}"
        command = [
            "curl",
            "-sSf",
            "-m",
            "10",
            "--noproxy",
            "*",
            "--cacert",
            str(self._ca),
            "--resolve",
            resolve,
            *more,
            url,
        ]
        return self._node.run(*command).stdout

    def keys(self) -> dict[str, Any]:
        """Its JWKS."""
        found: dict[str, Any] = json.loads(self._curl(f"{TENANT}/discovery/v2.0/keys"))
        return found

    def journal(self) -> list[dict[str, Any]]:
        """What it was asked for tokens."""
        entries: list[dict[str, Any]] = json.loads(self._curl("emulator/journal"))["requests"]
        return [entry for entry in entries if entry["service"] == "entra" and entry["method"] == "POST"]

    def tell(self, verb: str, **body: object) -> None:
        """One of its verbs."""
        self._curl(f"emulator/{verb}", "-X", "POST", "-H", "Content-Type: application/json", "-d", json.dumps(body))

    def reachable(self, *, yes: bool) -> None:
        """Take its Service's endpoints away, or give them back: connections are refused meanwhile."""
        selector = {"app": "entra" if yes else "nobody"}
        self._node.kubectl("-n", "entra", "patch", "service/entra", "-p", json.dumps({"spec": {"selector": selector}}))


class Metadata:
    """The node's metadata service, with the node's own identity."""

    def __init__(self, node: Node, folder: Path) -> None:
        self._node = node
        self._folder = folder

    def journal(self) -> list[dict[str, Any]]:
        """Who asked it for what."""
        addresses = json.loads((self._folder / "emulator.json").read_text())
        command = ["curl", "-sSf", "-m", "10", "--noproxy", "*", "--cacert", str(self._folder / "ca.crt")]
        entries = json.loads(self._node.run(*command, f"{addresses['authority']}emulator/journal").stdout)["requests"]
        return [entry for entry in entries if entry["service"] == "imds"]


def serve_metadata(node: Node) -> Iterator[Metadata]:
    """Run one on the node."""
    folder = node.folder / "metadata"
    folder.mkdir()
    (folder / "state.yaml").write_text(yaml.safe_dump(NODE_STATE))
    command = [*node.enter, str(AZWI), "emulator", f"--state={folder}/state.yaml", f"--dir={folder}"]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen([*command, "--imds-port=80", f"--imds-host={METADATA}"], stdout=log, stderr=log) as process,
    ):
        deadline = time.monotonic() + 20
        while not (folder / "emulator.json").exists():
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.05)
        try:
            yield Metadata(node, folder)
        finally:
            process.terminate()


def manifest(api: str, kind: str, name: str, namespace: str = "", **members: Any) -> dict[str, Any]:  # noqa: ANN401
    """An object; `labels` and `annotations` go into its metadata."""
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    for key in ("labels", "annotations"):
        if key in members:
            metadata[key] = members.pop(key)
    return {"apiVersion": api, "kind": kind, "metadata": metadata} | members
