"""One control plane for all tests of this folder, and webhooks that it calls."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import trustme
from controlplane import BUILD, ControlPlane
from kube import Cluster

from azwi.contract import ANNOTATED_NAMESPACE_LABEL, ANNOTATED_WEBHOOK_PATH, WEBHOOK_PATH
from azwi.local.processes import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WEBHOOK = Path(sys.executable).with_name("azwi-webhook")
TENANT = "11111111-1111-1111-1111-111111111111"
CLIENT = "22222222-2222-2222-2222-222222222222"
_numbers = itertools.count()


def account(name: str, client_id: str | None = CLIENT) -> dict[str, Any]:
    """A service account, with a client id or without."""
    annotations = {"azure.workload.identity/client-id": client_id} if client_id else {}
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": "default", "annotations": annotations},
    }


def spec(name: str) -> dict[str, Any]:
    """A Pod's spec that runs as that account."""
    return {"serviceAccountName": name, "containers": [{"name": "app", "image": "registry.example/app:1"}]}


def pod(name: str, of: str) -> dict[str, Any]:
    """A labelled Pod."""
    labels = {"azure.workload.identity/use": "true"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec(of)}


def variables(found: dict[str, Any]) -> dict[str, str]:
    """What the Pod's first container got."""
    return {one["name"]: one.get("value", "") for one in found["spec"]["containers"][0].get("env", [])}


@pytest.fixture
def name() -> str:
    """A name that no other test has."""
    return f"orders-{next(_numbers)}-{time.monotonic_ns() % 100000}"


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A real API server with its controllers: the one that KUBECONFIG names, else one of our own.

    AZWI_E2E_ADDRESS is the host name or address by which the named one reaches this machine.
    """
    folder = tmp_path_factory.mktemp("cluster")
    if given := os.environ.get("KUBECONFIG"):
        yield Cluster(folder, "kubectl", Path(given), os.environ.get("AZWI_E2E_ADDRESS", "localhost"))
        return
    program = subprocess.run(["/bin/sh", BUILD], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    with ControlPlane(folder, program).running() as running:
        yield running


class Webhook:
    """A running azwi-webhook."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, port: int, health: int, metrics: int) -> None:
        self.process = process
        self.port = port
        self._log = log
        self._health = health
        self._metrics = metrics

    def said(self) -> list[dict[str, Any]]:
        """Its log lines."""
        lines = self._log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def output(self) -> str:
        """All that it printed."""
        return self._log.read_text()

    def is_ready(self) -> bool:
        """Whether it says so itself."""
        with contextlib.suppress(httpx2.TransportError):
            return httpx2.get(f"http://127.0.0.1:{self._health}/readyz", trust_env=False).is_success
        return False

    def wait_until_ready(self) -> None:
        """Wait; a process that ends instead shows what it said."""
        wait_until(lambda: self.is_ready() or self.process.poll() is not None)
        assert self.process.poll() is None, self.output()

    def metric(self, name: str) -> float:
        """The value of a series, by name and labels as they are printed."""
        text = httpx2.get(f"http://127.0.0.1:{self._metrics}/metrics", trust_env=False).text
        found = [line for line in text.splitlines() if line.startswith(name + " ")]
        return float(found[0].rpartition(" ")[2]) if found else 0.0


def write_pair(folder: Path, name: str) -> bytes:
    """Write tls.crt and tls.key for a host name or address; gives the PEM of their authority."""
    folder.mkdir()
    authority = trustme.CA()
    pair = authority.issue_cert(name, "localhost")
    pair.private_key_pem.write_to_path(str(folder / "tls.key"))
    pair.cert_chain_pems[0].write_to_path(str(folder / "tls.crt"))
    return authority.cert_pem.bytes()


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait, for at most so long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextlib.contextmanager
def started_webhook(
    cluster: Cluster, folder: Path, kubeconfig: Path, *flags: str, port: int = 0, **more: str
) -> Iterator[Webhook]:
    """A webhook process, maybe not ready yet, with more variables in its environment."""
    port, health, metrics = port or free_port(), free_port(), free_port()
    folder.mkdir(exist_ok=True)
    log = folder / "webhook.log"
    argv = [
        str(WEBHOOK),
        f"--bind-address={'127.0.0.1' if cluster.address == 'localhost' else ''}",
        f"--port={port}",
        f"--health-addr=127.0.0.1:{health}",
        f"--metrics-addr=127.0.0.1:{metrics}",
        f"--kubeconfig={kubeconfig}",
        f"--lease-name=azwi-{port}",
        *flags,
    ]
    environment = {"PATH": os.environ["PATH"], "AZURE_TENANT_ID": TENANT, "HOME": str(folder)}
    environment |= {"POD_NAMESPACE": "default", **more}
    with (
        log.open("wb") as output,
        subprocess.Popen(argv, env=environment, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        try:
            yield Webhook(process, log, port, health, metrics)
        finally:
            process.kill()


@contextlib.contextmanager
def running_webhook(cluster: Cluster, folder: Path, kubeconfig: Path, *flags: str) -> Iterator[Webhook]:
    """A webhook that follows the cluster, and that the cluster calls for labelled Pods."""
    certificates = folder / "certificates"
    bundle = write_pair(certificates, cluster.address)
    own = ("--disable-cert-rotation", f"--webhook-cert-dir={certificates}")
    with started_webhook(cluster, folder, kubeconfig, *own, *flags) as webhook:
        webhook.wait_until_ready()
        cluster.apply(configuration("azwi", cluster.address, webhook.port, bundle))
        try:
            yield webhook
        finally:
            cluster.kubectl("delete", "mutatingwebhookconfiguration", "azwi")


def configuration(name: str, host: str, port: int, bundle: bytes = b"") -> dict[str, Any]:
    """Both entries: the one that selects labelled Pods, and the one that selects namespaces."""

    def entry(of: str, path: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401
        created = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
        client = {"url": f"https://{host}:{port}{path}", "caBundle": base64.b64encode(bundle).decode()}
        return {
            "name": f"{of}.azure-workload-identity.io",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "timeoutSeconds": 10,
            "reinvocationPolicy": "IfNeeded",
            "rules": [created],
            "clientConfig": client,
        } | more

    labelled = {"matchLabels": {"azure.workload.identity/use": "true"}}
    namespaces = {"matchLabels": {ANNOTATED_NAMESPACE_LABEL: "true"}}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [
            entry("mutation", WEBHOOK_PATH, objectSelector=labelled, failurePolicy="Fail"),
            entry("annotated", ANNOTATED_WEBHOOK_PATH, namespaceSelector=namespaces, failurePolicy="Ignore"),
        ],
    }


@pytest.fixture(scope="module")
def webhook(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webhook]:
    """A webhook with an administrator's kubeconfig."""
    with running_webhook(cluster, tmp_path_factory.mktemp("webhook"), cluster.kubeconfig, "--log-level=debug") as found:
        yield found
