"""What operators see: findings about running Pods, metrics, logs, and nothing that is secret."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from conftest import account, pod, running_webhook, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from kube import Cluster

OTHER = "33333333-3333-3333-3333-333333333333"
PREFIX = "azure.workload.identity/"


def test_running_pods_are_looked_at(cluster: Cluster, tmp_path: Path, name: str) -> None:
    """Made before the webhook, made without the label, made for another identity: counted and told, never deleted."""
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    cluster.apply(space)
    cluster.wait_for("get", "serviceaccount/default", "-n", name)

    def create(document: dict[str, Any]) -> None:
        document["metadata"]["namespace"] = name
        cluster.apply(document)

    create(account("orders"))
    create(pod("before", "orders"))
    unlabelled = pod("unlabelled", "orders")
    del unlabelled["metadata"]["labels"]
    create(unlabelled)
    with running_webhook(cluster, tmp_path, cluster.kubeconfig, "--pod-check-interval=1") as webhook:
        create(pod("well", "orders"))
        wait_until(lambda: webhook.metric('azwi_pod_findings{reason="not-injected"}') >= 1, 30)
        assert webhook.metric('azwi_pod_findings{reason="not-labelled"}') >= 1
        overwrite = ["annotate", "--overwrite", "-n", name, "serviceaccount", "orders", f"{PREFIX}client-id={OTHER}"]
        cluster.kubectl(*overwrite)
        wait_until(lambda: webhook.metric('azwi_pod_findings{reason="stale"}') >= 1, 10)

        def told() -> dict[str, set[str]]:
            found: dict[str, set[str]] = {}
            for item in cluster.get("events", "-n", name)["items"]:
                if item["source"].get("component") == "azwi-webhook":
                    found.setdefault(item["involvedObject"]["name"], set()).add(item["reason"])
            return found

        expected = {"before": {"NotInjected"}, "unlabelled": {"NotLabelled"}, "well": {"Stale"}}
        wait_until(lambda: told() == expected, 10)
        assert 3 == len(cluster.get("pods", "-n", name)["items"])


def test_nothing_secret_is_printed(cluster: Cluster, tmp_path: Path, name: str) -> None:
    """At debug level, through warnings, refusals, Events and findings: no content of a Pod, no token, no key."""
    mark = "do-not-print-this"
    flags = ("--log-level=debug", "--pod-check-interval=1")
    with running_webhook(cluster, tmp_path, cluster.kubeconfig, *flags) as webhook:
        cluster.apply(account(name, None))
        for number, annotations in enumerate(({}, {PREFIX + "inject-proxy-sidecar": "maybe"})):
            marked = pod(f"{name}-{number}", name)
            marked["metadata"]["annotations"] = {"note": mark, **annotations}
            marked["spec"]["containers"][0]["env"] = [{"name": "SECRET", "value": mark}]
            cluster.kubectl("create", "-f", "-", text=json.dumps(marked), check=False)
        wait_until(lambda: any(line["message"] == "Pods looked at" for line in webhook.said()))
        time.sleep(1)
        told = json.dumps(cluster.get("events", "-A"))
        for output in (webhook.output(), told):
            assert mark not in output
            assert "eyJ" not in output
            assert "PRIVATE KEY" not in output
        uids = [line["uid"] for line in webhook.said() if line["message"].startswith("review ")]
        assert len(uids) >= 2
        assert all(uids)
