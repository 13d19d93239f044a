"""azwi-webhook in front of a real API server: it follows service accounts, and looks where it may be behind."""

from __future__ import annotations

import itertools
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from conftest import CLIENT, TENANT, account, pod, spec, variables, wait_until

if TYPE_CHECKING:
    from conftest import Webhook
    from controlplane import ControlPlane


def test_a_pod_gets_its_identity(cluster: ControlPlane, webhook: Webhook, name: str) -> None:
    """The API server stores what we injected, with volume and mount."""
    cluster.apply(account(name), pod(name, name))

    found = cluster.get("pod", name)
    assert (CLIENT, TENANT) == (variables(found)["AZURE_CLIENT_ID"], variables(found)["AZURE_TENANT_ID"])
    volumes = [volume["name"] for volume in found["spec"]["volumes"]]
    assert "azure-workload-identity-reserved-token" in volumes
    assert webhook.metric('azwi_admission_reviews_total{reason="",result="mutated"}') > 0


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"])
def test_every_kind_of_workload(kind: str, cluster: ControlPlane, webhook: Webhook, name: str) -> None:
    """The Pods that controllers make are injected, too."""
    assert webhook.is_ready()
    labels = {"app": name, "azure.workload.identity/use": "true"}
    template: dict[str, Any] = {"metadata": {"labels": labels}, "spec": spec(name)}
    template["spec"]["restartPolicy"] = "Never" if kind in {"Job", "CronJob"} else "Always"
    bodies: dict[str, dict[str, Any]] = {
        "Job": {"template": template},
        "CronJob": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": template}}},
        "StatefulSet": {"serviceName": name},
    }
    selected = {"selector": {"matchLabels": {"app": name}}, "template": template}
    body = bodies[kind] if kind in {"Job", "CronJob"} else selected | bodies.get(kind, {})
    version = "batch/v1" if kind in {"Job", "CronJob"} else "apps/v1"
    cluster.apply(account(name), {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": body})
    if kind == "CronJob":
        cluster.kubectl("create", "job", "--from", f"cronjob/{name}", f"{name}-now")
    if kind == "DaemonSet":  # there is no node: what its controller would make is checked by a dry run
        made = cluster.kubectl(
            "create", "--dry-run=server", "-o", "json", "-f", "-", text=json.dumps(pod(name, name))
        ).stdout
        assert CLIENT == variables(json.loads(made))["AZURE_CLIENT_ID"]
        return

    def pods() -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = cluster.get("pods", "-l", f"app={name}")["items"]
        return items

    wait_until(lambda: bool(pods()))
    assert CLIENT == variables(pods()[0])["AZURE_CLIENT_ID"]
    cluster.kubectl("delete", kind, name, "--wait=false")


def test_changes_are_followed(cluster: ControlPlane, webhook: Webhook, name: str) -> None:
    """An annotation that changes, and an account that goes, count for the next Pod."""
    cluster.apply(account(name))
    other = "33333333-3333-3333-3333-333333333333"
    cluster.kubectl("annotate", "--overwrite", "serviceaccount", name, f"azure.workload.identity/client-id={other}")
    index = itertools.count()

    def injected() -> str:
        made = cluster.kubectl(
            "create", "--dry-run=server", "-o", "json", "-f", "-", text=json.dumps(pod(f"{name}-{next(index)}", name))
        )
        return variables(json.loads(made.stdout))["AZURE_CLIENT_ID"]

    wait_until(lambda: injected() == other, 5)
    time.sleep(1.5)  # metrics are told every second
    before = webhook.metric("azwi_service_accounts")
    cluster.kubectl("delete", "serviceaccount", name)
    wait_until(lambda: webhook.metric("azwi_service_accounts") == before - 1, 5)


def test_an_account_of_the_same_instant_is_never_missed(cluster: ControlPlane, webhook: Webhook, name: str) -> None:
    """Account and Pod in one call, a hundred times, several at once: each Pod has its identity."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: cluster.apply(account(f"{name}-{n}"), pod(f"{name}-{n}", f"{name}-{n}")), range(100)))

    items = cluster.get("pods")["items"]
    mine = [item for item in items if item["metadata"]["name"].startswith(name)]
    assert 100 == len(mine)
    assert {CLIENT} == {variables(item).get("AZURE_CLIENT_ID") for item in mine}
    assert webhook.is_ready()


def test_a_missing_account_is_refused_by_name(cluster: ControlPlane, webhook: Webhook, name: str) -> None:
    """The API server's own check comes first; without it the refusal would be ours, with the same words."""
    assert webhook.is_ready()
    run = cluster.kubectl("create", "-f", "-", text=json.dumps(pod(name, name)), check=False)
    assert 1 == run.returncode
    assert f'serviceaccount "{name}" not found' in run.stderr


def test_an_account_without_client_id_is_warned_about_and_asked_for_once(
    cluster: ControlPlane, webhook: Webhook, name: str
) -> None:
    """Kubectl prints the warning; the API server is asked for the account once until it changes."""
    cluster.apply(account(name, None))
    dry = ["create", "--dry-run=server", "-f", "-"]
    run = cluster.kubectl(*dry, text=json.dumps(pod(name, name)))
    assert "Warning: " in run.stderr
    assert "client-id" in run.stderr
    time.sleep(1.5)  # metrics are told every second
    reads = webhook.metric('azwi_service_account_reads_total{result="found"}')
    for _ in range(3):
        cluster.kubectl(*dry, text=json.dumps(pod(name, name)))
    time.sleep(1.5)
    assert reads == webhook.metric('azwi_service_account_reads_total{result="found"}')


def test_nothing_of_a_pod_or_a_token_is_logged(cluster: ControlPlane, webhook: Webhook, name: str) -> None:
    """At debug level, too."""
    secret = "do-not-log-this"  # noqa: S105  # a mark
    marked = pod(name, name)
    marked["spec"]["containers"][0]["env"] = [{"name": "SECRET", "value": secret}]
    marked["metadata"]["annotations"] = {"note": secret}
    cluster.apply(account(name), marked)
    assert secret not in webhook.output()
    assert "eyJ" not in webhook.output()
