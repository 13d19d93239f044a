"""Certificates of our own in front of a real API server: made, trusted, mended, rotated, handed over (D 21)."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from conftest import CLIENT, account, configuration, pod, started_webhook, variables, wait_until
from controlplane import free_port
from cryptography import x509

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Webhook
    from controlplane import ControlPlane

ANNOTATIONS = {"argocd.argoproj.io/tracking-id": "kept"}


class Installation:
    """A Secret, a Lease, a configuration and a namespace of their own, and webhooks that share them."""

    def __init__(self, cluster: ControlPlane, folder: Path, name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.port = free_port()
        self._folder = folder
        self._count = 0
        in_namespace = {"name": name, "namespace": name}
        made = configuration(name, self.port)
        made["metadata"]["annotations"] = ANNOTATIONS
        for entry in made["webhooks"]:
            # Only our own Pods, so that installations do not meet.
            entry["namespaceSelector"] = {"matchLabels": {"kubernetes.io/metadata.name": name}}
        cluster.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}},
            {"apiVersion": "v1", "kind": "Secret", "metadata": in_namespace},
            {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": in_namespace},
            made,
        )
        cluster.wait_for("get", "serviceaccount/default", "-n", name)
        self.apply(account("orders"))

    def apply(self, document: dict[str, Any]) -> None:
        """Create an object in the namespace."""
        document["metadata"]["namespace"] = self.name
        self.cluster.apply(document)

    @contextlib.contextmanager
    def replica(self, *flags: str, port: int = 0) -> Iterator[Webhook]:
        """One more webhook; by default on the port that API servers call."""
        self._count += 1
        replica = f"replica-{self._count}"
        names = ("secret-name", "lease-name", "webhook-config-name")
        with started_webhook(
            self._folder / replica,
            self.cluster.kubeconfig,
            *(f"--{flag}={self.name}" for flag in names),
            "--certificate-names=localhost",
            *flags,
            port=port or self.port,
            POD_NAMESPACE=self.name,
            POD_NAME=replica,
        ) as webhook:
            yield webhook

    def secret(self) -> dict[str, bytes]:
        """What the Secret holds."""
        data = self.cluster.get("secret", self.name, "-n", self.name).get("data") or {}
        return {name: base64.b64decode(value) for name, value in data.items()}

    def configuration(self) -> dict[str, Any]:
        """The webhook configuration."""
        return self.cluster.get("mutatingwebhookconfiguration", self.name)

    def bundles(self) -> list[bytes]:
        """The caBundle of each entry."""
        entries = self.configuration()["webhooks"]
        return [base64.b64decode(entry["clientConfig"].get("caBundle") or "") for entry in entries]

    def admit(self, index: object = 0) -> bool:
        """Whether a Pod is let in and has its identity; nothing of it stays."""
        made = pod(f"orders-{index}", "orders")
        made["metadata"]["namespace"] = self.name
        create = ["create", "--dry-run=server", "-o", "json", "-f", "-"]
        run = self.cluster.kubectl(*create, text=json.dumps(made), check=False)
        return run.returncode == 0 and CLIENT == variables(json.loads(run.stdout)).get("AZURE_CLIENT_ID")


@pytest.fixture
def installation(cluster: ControlPlane, tmp_path: Path, name: str) -> Iterator[Installation]:
    """One that goes with the test."""
    yield Installation(cluster, tmp_path, name)
    cluster.kubectl("delete", "mutatingwebhookconfiguration", name)


def test_the_first_start(installation: Installation) -> None:
    """An empty Secret, a configuration without a bundle: seconds later Pods are admitted, and nothing else changed."""
    before = installation.configuration()
    with installation.replica() as webhook:
        webhook.wait_until_ready()
        assert installation.admit()
        after, secret = installation.configuration(), installation.secret()
        assert ANNOTATIONS == after["metadata"]["annotations"]
        assert [secret["ca.crt"]] * 2 == installation.bundles()
        for entry in after["webhooks"]:
            del entry["clientConfig"]["caBundle"]
        assert before["webhooks"] == after["webhooks"]
        wait_until(lambda: webhook.metric('azwi_certificate_expiry_timestamp_seconds{certificate="leaf"}') > 0, 10)
        leaf = x509.load_pem_x509_certificate(secret["tls.crt"])
        told = webhook.metric('azwi_certificate_expiry_timestamp_seconds{certificate="leaf"}')
        assert leaf.not_valid_after_utc.timestamp() == told
        assert "PRIVATE" not in webhook.output()
