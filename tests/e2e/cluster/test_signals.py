"""What authors of Pods see: warnings and refusals in kubectl, and Events."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from conftest import CLIENT, account, pod, spec, wait_until

if TYPE_CHECKING:
    from kube import Cluster

    from conftest import Webhook

PREFIX = "azure.workload.identity/"


def events(cluster: Cluster, kind: str, name: str) -> list[tuple[str, str]]:
    """Reason and message of the Events about an object."""
    selector = f"involvedObject.kind={kind},involvedObject.name={name}"
    return [(item["reason"], item["message"]) for item in cluster.get("events", "--field-selector", selector)["items"]]


@pytest.mark.parametrize(
    ("words", "on_account", "on_pod"),
    [
        (
            "service account has no azure.workload.identity/client-id: AZURE_CLIENT_ID is not set",
            {PREFIX + "client-id": None},
            {},
        ),
        ("not-a-guid", {PREFIX + "client-id": "not-a-guid"}, {}),
        ("is empty", {PREFIX + "tenant-id": ""}, {}),
        ("clientId", {PREFIX + "clientId": CLIENT}, {}),
        (PREFIX + "client-id", {}, {PREFIX + "client-id": CLIENT}),
        ("port 80", {}, {PREFIX + "inject-proxy-sidecar": "true", PREFIX + "proxy-sidecar-port": "80"}),
    ],
)
def test_kubectl_prints_warnings(
    words: str,
    on_account: dict[str, str | None],
    on_pod: dict[str, str],
    cluster: Cluster,
    webhook: Webhook,
    name: str,
) -> None:
    """The author of the Pod reads them, and the Pod is let in."""
    made = account(name)
    annotations = made["metadata"]["annotations"] | on_account
    made["metadata"]["annotations"] = {key: value for key, value in annotations.items() if value is not None}
    cluster.apply(made)
    asked = pod(name, name)
    asked["metadata"]["annotations"] = on_pod
    run = cluster.kubectl("create", "--dry-run=server", "-f", "-", text=json.dumps(asked))
    assert "Warning: " in run.stderr
    assert words in run.stderr
    assert webhook.is_ready()


@pytest.mark.parametrize(
    ("words", "annotations", "more"),
    [
        (
            'proxy-sidecar-port on the Pod is "0"; allowed: ',
            {"inject-proxy-sidecar": "on", "proxy-sidecar-port": "0"},
            {},
        ),
        ('inject-proxy-sidecar on the Pod is "maybe"; allowed: ', {"inject-proxy-sidecar": "maybe"}, {}),
        (
            'service-account-token-expiration on the Pod is "5"; allowed: ',
            {"service-account-token-expiration": "5"},
            {},
        ),
        (
            "hostNetwork is set to true, cannot inject proxy sidecar",
            {"inject-proxy-sidecar": ""},
            {"hostNetwork": True},
        ),
    ],
)
def test_kubectl_prints_refusals(
    words: str, annotations: dict[str, str], more: dict[str, Any], cluster: Cluster, webhook: Webhook, name: str
) -> None:
    """By the annotation's name, with its value and what is allowed; the API server's code is 400."""
    cluster.apply(account(name))
    asked = pod(name, name)
    asked["metadata"]["annotations"] = {PREFIX + key: value for key, value in annotations.items()}
    asked["spec"] |= more
    run = cluster.kubectl("create", "-f", "-", "-v=8", text=json.dumps(asked), check=False)
    assert 'admission webhook "mutation.azure-workload-identity.io" denied the request: ' in run.stderr
    assert words in run.stderr
    assert '"code":400' in run.stderr
    assert webhook.is_ready()


def test_a_warning_becomes_an_event(cluster: Cluster, webhook: Webhook, name: str) -> None:
    """On the ReplicaSet of a Deployment, once for all of its Pods; on the service account of a Pod that nobody owns."""
    assert webhook.is_ready()
    labels = {"app": name, PREFIX + "use": "true"}
    template = {"metadata": {"labels": labels}, "spec": spec(name)}
    body = {"replicas": 3, "selector": {"matchLabels": {"app": name}}, "template": template}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": body}
    cluster.apply(account(name, None), deployment)
    wait_until(lambda: len(cluster.get("pods", "-l", f"app={name}")["items"]) == 3)
    owner = cluster.get("replicasets", "-l", f"app={name}")["items"][0]["metadata"]["name"]

    def ours(kind: str, of: str) -> list[str]:
        return [message for reason, message in events(cluster, kind, of) if reason == "NoClientId"]

    wait_until(lambda: len(ours("ReplicaSet", owner)) == 1, 10)
    cluster.kubectl("create", "--dry-run=server", "-f", "-", text=json.dumps(pod(name, name)))
    time.sleep(1)
    assert [] == ours("ServiceAccount", name)
    cluster.apply(pod(name, name))
    wait_until(lambda: len(ours("ServiceAccount", name)) == 1, 10)
    assert "client-id" in ours("ServiceAccount", name)[0]
    assert "NoClientId" in cluster.kubectl("describe", "replicaset", owner).stdout
    time.sleep(1)
    assert 1 == len(ours("ReplicaSet", owner))
    cluster.kubectl("delete", "deployment", name, "--wait=false")
