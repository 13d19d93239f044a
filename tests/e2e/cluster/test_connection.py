"""How azwi-webhook reaches an API server: with few rights, through its absence, with an exec plugin."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from controlplane import ControlPlane

from conftest import CLIENT, account, pod, running_webhook, variables, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from kube import Cluster


def test_an_account_that_may_list_and_watch_only(cluster: Cluster, tmp_path: Path, name: str) -> None:
    """The documented rights suffice: get, list and watch of service accounts."""
    cluster.kubectl("create", "clusterrole", name, "--verb=get,list,watch", "--resource=serviceaccounts")
    restricted = cluster.write_config(name, {"token": cluster.token(f"restricted-{name}", name)})
    cluster.apply(account(name))
    with running_webhook(cluster, tmp_path, restricted):
        cluster.apply(pod(name, name))
        assert CLIENT == variables(cluster.get("pod", name))["AZURE_CLIENT_ID"]


def test_the_api_server_goes_and_comes(cluster: Cluster, tmp_path: Path, name: str) -> None:
    """While it is away the webhook stays ready and says so in a metric; afterwards it follows again."""
    if not isinstance(cluster, ControlPlane):
        pytest.skip("the API server is not ours to stop")
    with running_webhook(cluster, tmp_path, cluster.kubeconfig) as webhook:
        cluster.stop_api_server()
        wait_until(lambda: webhook.metric("azwi_service_account_watch_restarts_total") > 0)
        assert webhook.is_ready()
        cluster.start_api_server()
        cluster.apply(account(name))
        wait_until(lambda: webhook.metric("azwi_service_account_watch_age_seconds") < 2)
        cluster.apply(pod(name, name))
        assert CLIENT == variables(cluster.get("pod", name))["AZURE_CLIENT_ID"]
        assert "Traceback" not in webhook.output()


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_a_kubeconfig_with_an_exec_plugin(version: str, cluster: Cluster, tmp_path: Path, name: str) -> None:
    """A plugin as AKS has it: asked with KUBERNETES_EXEC_INFO, and its token is the webhook's."""
    token = cluster.token(f"plugin-{name}", "view")
    api = f"client.authentication.k8s.io/{version}"
    script = tmp_path / "plugin"
    credential = json.dumps({"apiVersion": api, "kind": "ExecCredential", "status": {"token": token}})
    script.write_text(f"#!/bin/sh\nprintf '%s' \"$KUBERNETES_EXEC_INFO\" > '{tmp_path}/info'\necho '{credential}'\n")
    script.chmod(0o700)
    config = cluster.write_config(f"plugin-{name}", {"exec": {"apiVersion": api, "command": str(script)}})
    with running_webhook(cluster, tmp_path, config) as webhook:
        wait_until(lambda: webhook.metric("azwi_service_accounts") > 0)
    info = json.loads((tmp_path / "info").read_text())
    assert (api, "ExecCredential") == (info["apiVersion"], info["kind"])
    assert token not in webhook.output()


def test_namespaces_whose_pods_nobody_labelled(cluster: Cluster, tmp_path: Path, name: str) -> None:
    """A labelled namespace: the annotated account's Pod is injected, the plain one's is not; elsewhere neither."""
    spaces = {f"in-{name}": {"azure.workload.identity/use-annotated-serviceaccounts": "true"}, f"out-{name}": {}}
    with running_webhook(cluster, tmp_path, cluster.kubeconfig):
        for space, labels in spaces.items():
            metadata = {"name": space, "labels": labels}
            cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
            for of, client_id in (("annotated", CLIENT), ("plain", None)):
                made = account(of, client_id)
                made["metadata"]["namespace"] = space
                cluster.apply(made)
                unlabelled = pod(of, of)
                unlabelled["metadata"] = {"name": of, "namespace": space}
                cluster.apply(unlabelled)
                injected = "AZURE_CLIENT_ID" in variables(cluster.get("pod", of, "-n", space))
                assert (bool(labels) and client_id is not None) == injected


def test_the_identity_policy_refuses_by_name(cluster: Cluster, tmp_path: Path, name: str) -> None:
    """Kubectl shows who may not use what; a change of the file counts without a restart."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("rules: [{namespaces: [elsewhere], clientIds: ['*']}]")
    with running_webhook(cluster, tmp_path, cluster.kubeconfig, f"--identity-policy={policy}"):
        cluster.apply(account(name))
        run = cluster.kubectl("create", "-f", "-", text=json.dumps(pod(name, name)), check=False)
        assert f'service account "{name}" may not use client id "{CLIENT}" in namespace "default"' in run.stderr
        policy.write_text(f"rules: [{{namespaces: [def*], clientIds: [{CLIENT}]}}]")
        create = ["create", "--dry-run=server", "-f", "-"]
        wait_until(lambda: not cluster.kubectl(*create, text=json.dumps(pod(name, name)), check=False).returncode, 10)
