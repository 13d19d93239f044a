"""azwi-webhook in front of a real API server: it follows service accounts, and looks where it may be behind."""

from __future__ import annotations

import itertools
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from load import pod_load
from other import CONTAINER, other_webhook
from relay import line

from conftest import CLIENT, TENANT, account, pod, spec, started_webhook, variables, wait_until, write_pair

if TYPE_CHECKING:
    from pathlib import Path

    from kube import Cluster

    from conftest import Webhook


def test_a_pod_gets_its_identity(cluster: Cluster, webhook: Webhook, name: str) -> None:
    """The API server stores what we injected, with volume and mount."""
    cluster.apply(account(name), pod(name, name))

    found = cluster.get("pod", name)
    assert (CLIENT, TENANT) == (variables(found)["AZURE_CLIENT_ID"], variables(found)["AZURE_TENANT_ID"])
    volumes = [volume["name"] for volume in found["spec"]["volumes"]]
    assert "azure-workload-identity-reserved-token" in volumes
    assert webhook.metric('azwi_admission_reviews_total{reason="",result="mutated"}') > 0


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"])
def test_every_kind_of_workload(kind: str, cluster: Cluster, webhook: Webhook, name: str) -> None:
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


def test_changes_are_followed(cluster: Cluster, webhook: Webhook, name: str) -> None:
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


def test_an_account_of_the_same_instant_is_never_missed(cluster: Cluster, webhook: Webhook, name: str) -> None:
    """Account and Pod in one call, two hundred times, several at once: each Pod has its identity."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: cluster.apply(account(f"{name}-{n}"), pod(f"{name}-{n}", f"{name}-{n}")), range(200)))

    items = cluster.get("pods")["items"]
    mine = [item for item in items if item["metadata"]["name"].startswith(name)]
    assert 200 == len(mine)
    assert {CLIENT} == {variables(item).get("AZURE_CLIENT_ID") for item in mine}
    assert webhook.is_ready()


def test_a_missing_account_is_refused_by_name(cluster: Cluster, webhook: Webhook, name: str) -> None:
    """The API server's own check comes first; without it the refusal would be ours, with the same words."""
    assert webhook.is_ready()
    run = cluster.kubectl("create", "-f", "-", text=json.dumps(pod(name, name)), check=False)
    assert 1 == run.returncode
    assert f'serviceaccount "{name}" not found' in run.stderr


def test_an_account_without_client_id_is_warned_about_and_asked_for_once(
    cluster: Cluster, webhook: Webhook, name: str
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


def test_nothing_of_a_pod_or_a_token_is_logged(cluster: Cluster, webhook: Webhook, name: str) -> None:
    """At debug level, too."""
    secret = "do-not-log-this"  # noqa: S105  # a mark
    marked = pod(name, name)
    marked["spec"]["containers"][0]["env"] = [{"name": "SECRET", "value": secret}]
    marked["metadata"]["annotations"] = {"note": secret}
    cluster.apply(account(name), marked)
    assert secret not in webhook.output()
    assert "eyJ" not in webhook.output()


def test_another_webhook_names_the_pod_and_adds_a_container(cluster: Cluster, webhook: Webhook, name: str) -> None:
    """We are called again: every container reads the token, from one volume, and nothing stands there twice."""
    assert webhook.is_ready()
    cluster.apply(account(name))
    made = pod(name, name)
    made["metadata"] |= {"generateName": f"{name}-", "labels": made["metadata"]["labels"] | {"mesh": name}}
    del made["metadata"]["name"]
    made["metadata"]["annotations"] = {"azure.workload.identity/inject-proxy-sidecar": "true"}
    with other_webhook(cluster, name):
        cluster.kubectl("create", "-f", "-", text=json.dumps(made))
    found = cluster.get("pod", f"{name}-renamed")["spec"]
    assert ["azwi-proxy-init", "azwi-proxy"] == [container["name"] for container in found["initContainers"]]
    assert [CONTAINER, "app"] == [container["name"] for container in found["containers"]]
    assert 1 == [volume["name"] for volume in found["volumes"]].count("azure-workload-identity-reserved-token")
    for container in (*found["containers"], found["initContainers"][1]):
        names = [variable["name"] for variable in container["env"]]
        assert 1 == names.count("AZURE_FEDERATED_TOKEN_FILE")
        paths = [mount["mountPath"] for mount in container["volumeMounts"]]
        assert 1 == paths.count("/var/run/secrets/azure/wi")


def test_a_burst(cluster: Cluster, webhook: Webhook, name: str) -> None:
    """As many Pods as the API server takes for twenty seconds: each is admitted, and no probe waits for a second."""
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    cluster.apply(space)
    cluster.wait_for("get", "serviceaccount/default", "-n", name)
    orders = account("orders")
    orders["metadata"]["namespace"] = name
    cluster.apply(orders)
    probes: list[float] = []
    with pod_load(cluster, name, 500, workers=16) as load:
        begun = time.monotonic()
        while (now := time.monotonic()) < begun + 20:
            assert webhook.is_ready()
            probes.append(time.monotonic() - now)
            time.sleep(0.2)
    assert [] == load.failures
    assert load.injected > 20 * 20
    assert max(probes) < 1
    latencies = sorted(load.latencies)
    print(  # noqa: T201  # the figure of this run
        f"{load.injected / 20:.0f} Pods/s, creation p50 {latencies[len(latencies) // 2]:.3f} s, "
        f"p99 {latencies[len(latencies) * 99 // 100]:.3f} s, slowest probe {max(probes):.3f} s"
    )


def test_a_watch_that_is_cut(cluster: Cluster, tmp_path: Path, name: str) -> None:
    """Every connection to the API server breaks, and none is taken: what changed meanwhile is known afterwards."""
    if "127.0.0.1" not in cluster.url:
        pytest.skip("the API server's certificate is not for the line's end")
    with line(cluster, tmp_path) as way:
        certificates = ("--disable-cert-rotation", f"--webhook-cert-dir={tmp_path / 'certificates'}")
        write_pair(tmp_path / "certificates", cluster.address)
        with started_webhook(cluster, tmp_path / "webhook", way.kubeconfig, *certificates) as cut:
            cut.wait_until_ready()
            way.cut()
            cluster.apply(account(name))
            wait_until(lambda: cut.metric("azwi_service_account_watch_restarts_total") >= 1)
            assert cut.is_ready()
            known = cut.metric("azwi_service_accounts")
            way.mend()
            wait_until(lambda: cut.metric("azwi_service_accounts") == known + 1, 60)
