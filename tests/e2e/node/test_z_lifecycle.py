"""Upgrade, rollback, neighbours, migration and the end of a release. The order counts: the last tests take it away."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import trustme
import yaml
from admissions import going_on
from orders import asking, pod, template, wait
from world import CHART, FULL, IMAGE, RELEASE, SYSTEM, VALUES, report

from entra import TENANT, manifest
from manifests import MANIFEST

if TYPE_CHECKING:
    from node import Node
    from world import World

ORIGINAL = "azure-workload-identity-system"
EXPIRY = re.compile(r'^azwi_certificate_expiry_timestamp_seconds\{certificate="leaf"\} (\S+)', re.MULTILINE)
INSTANCE = "app.kubernetes.io/instance=azwi"
KINDS = (
    "serviceaccounts,configmaps,secrets,leases,services,deployments,poddisruptionbudgets,roles,rolebindings,pods,"
    "clusterroles,clusterrolebindings,mutatingwebhookconfigurations"
)


def install(node: Node, *more: str, name: str = RELEASE, verb: str = "install", check: bool = True) -> Any:  # noqa: ANN401
    """Helm's install or upgrade, until all is ready."""
    place = ["--namespace", SYSTEM, "--create-namespace", "--wait", "--timeout=120s"]
    return node.helm(verb, name, str(CHART), *place, *VALUES, *more, check=check)


def used_rights(world: World) -> set[tuple[str, str]]:
    """Resource and verb of each call that the webhook's account has made, all of them allowed."""
    account = f"system:serviceaccount:{SYSTEM}:{FULL}"
    lines = [json.loads(line) for line in world.node.audit.read_text().splitlines()]
    calls = [line for line in lines if line["user"]["username"] == account and "objectRef" in line]
    assert [] == [line for line in calls if line.get("responseStatus", {}).get("code") == 403]
    return {(line["objectRef"]["resource"], line["verb"]) for line in calls}


def test_rights_are_used(world: World) -> None:
    """The roles grant what the webhook has called, and no verb more."""
    world.node.kubectl("-n", "shop", "create", "serviceaccount", "nobody")
    # An account without a client id is asked for once more, and the warning becomes an Event.
    made = template({}, asking("app", "workload"), serviceAccountName="nobody")
    world.node.apply(pod("nobody", "shop", made))
    found = [
        rule
        for kind, name in (("clusterrole", f"{FULL}-{SYSTEM}"), ("role", FULL))
        for rule in world.node.get("-n", SYSTEM, kind, name)["rules"]
    ]
    granted = {(resource, verb) for rule in found for resource in rule["resources"] for verb in rule["verbs"]}
    with contextlib.suppress(AssertionError):
        wait(lambda: granted == used_rights(world), 20)
    assert granted == used_rights(world)


def test_upgrade_and_rollback(world: World) -> None:
    """No admission fails, and the certificates stay."""
    secret = ["-n", SYSTEM, f"secret/{FULL}-server-cert"]
    before = world.node.get(*secret)["data"]
    for change in ("upgrade", "rollback"):
        with going_on(world.node) as admissions:
            if change == "upgrade":
                install(world.node, "--set=podAnnotations.turn=upgrade", verb="upgrade")
            else:
                world.node.helm("rollback", RELEASE, "1", "--namespace", SYSTEM, "--wait", "--timeout=120s")
            world.node.kubectl("-n", SYSTEM, "rollout", "status", f"deployment/{FULL}", "--timeout=55s")
            time.sleep(12)  # until those that go are gone
        admissions.check()
        report(f"{change}: {admissions.injected} admissions meanwhile, none failed")
    assert before == world.node.get(*secret)["data"]


def secret_of(authority: trustme.CA, days: int) -> dict[str, Any]:
    """A Secret with a server certificate for the webhook."""
    until = datetime.now(UTC) + timedelta(days=days)
    made = authority.issue_cert(f"{FULL}.{SYSTEM}.svc", not_after=until)
    data = {"tls.crt": made.cert_chain_pems[0].bytes().decode(), "tls.key": made.private_key_pem.bytes().decode()}
    return manifest("v1", "Secret", "brought", SYSTEM, stringData=data)


def days_left(node: Node) -> set[int]:
    """Of the certificates that the webhook's Pods serve, by their metrics."""
    found = node.get("-n", SYSTEM, "pods", "-l", INSTANCE)["items"]
    names = [item["metadata"]["name"] for item in found if "deletionTimestamp" not in item["metadata"]]
    paths = [f"/api/v1/namespaces/{SYSTEM}/pods/{name}:8095/proxy/metrics" for name in names]
    told = [node.kubectl("get", "--raw", path, check=False).stdout for path in paths]
    ends = [float(found[1]) if (found := EXPIRY.search(text)) else 0.0 for text in told]
    return {round((end - time.time()) / 86400) for end in ends}


def test_certificates_that_are_brought(world: World) -> None:
    """From our own to those of a Secret of yours, and to its next: no admission fails."""
    node, authority = world.node, trustme.CA()
    own = node.get("-n", SYSTEM, f"secret/{FULL}-server-cert")["data"]["ca.crt"]
    bundle = node.folder / "bundle.pem"
    bundle.write_bytes(base64.b64decode(own) + authority.cert_pem.bytes())
    node.apply(secret_of(authority, 40))
    with going_on(node) as admissions:
        files = ["--set=certificates.mode=files,certificates.secretName=brought"]
        install(node, *files, f"--set-file=certificates.caBundle={bundle}", verb="upgrade")
        wait(lambda: days_left(node) == {40})
        node.kubectl("replace", "-f", "-", text=json.dumps(secret_of(authority, 80)))
        wait(lambda: days_left(node) == {80}, 150)
    admissions.check()
    report(f"certificates of one's own: {admissions.injected} admissions meanwhile, none failed")
    node.kubectl("-n", SYSTEM, "delete", "secret", "brought")


def test_not_beside_the_add_on(world: World) -> None:
    """AKS' own webhook is recognised by its release, and the refusal says what to do."""
    owner = {
        "meta.helm.sh/release-name": "aks-managed-workload-identity",
        "meta.helm.sh/release-namespace": "kube-system",
    }
    name = "azure-wi-webhook-mutating-webhook-configuration"
    api = "admissionregistration.k8s.io/v1"
    world.node.apply(manifest(api, "MutatingWebhookConfiguration", name, annotations=owner, webhooks=[]))
    try:
        refused = install(world.node, name="second", check=False)
        assert 0 != refused.returncode
        assert "az aks update --disable-workload-identity" in refused.stderr
        assert 0 == install(world.node, "--set=allowBesideAddon=true", "--dry-run=server", name="second").returncode
    finally:
        world.node.kubectl("delete", "mutatingwebhookconfiguration", name)


def owned(node: Node, namespace: str) -> list[str]:
    """What is in a namespace, and cluster-wide of ours, but for what Kubernetes puts there itself."""
    items = node.get("-n", namespace, KINDS)["items"]
    names = [f"{item['kind']}/{item['metadata']['name']}" for item in items]
    usual = {"ServiceAccount/default", "ConfigMap/kube-root-ca.crt"}
    ours = [
        name
        for name in names
        if not name.startswith(("ClusterRole", "MutatingWebhook")) or "azwi" in name or "azure" in name
    ]
    return sorted(set(ours) - usual)


def test_uninstall_leaves_nothing(world: World) -> None:
    """Neither the webhook's configuration nor Secret, Lease, roles or anything else."""
    world.node.helm("uninstall", RELEASE, "--namespace", SYSTEM, "--wait", "--timeout=120s")
    with contextlib.suppress(AssertionError):
        wait(lambda: not owned(world.node, SYSTEM))  # Pods end within their grace period
    assert [] == owned(world.node, SYSTEM)


def original() -> list[dict[str, Any]]:
    """The manifest for people without helm, filled in as envsubst would; its names are the Go original's."""
    values = {"AZURE_TENANT_ID": TENANT, "AZWI_IMAGE": IMAGE.rpartition(":")[0]}

    def fill(match: re.Match[str]) -> str:
        name, _, default = match[1].partition(":-")
        return values.get(name, default)

    return list(yaml.safe_load_all(re.sub(r"\$\{(.*?)\}", fill, MANIFEST.read_text())))


def test_migration(world: World) -> None:
    """The steps of docs/install.md from objects with the original's names to our release: no admission fails."""
    node = world.node
    objects = original()
    node.apply(*objects)
    node.kubectl("-n", ORIGINAL, "rollout", "status", "deployment/azure-wi-webhook-controller-manager", "--timeout=55s")
    with going_on(node) as admissions:
        time.sleep(2)
        install(node, "--set=failurePolicy=Ignore")
        install(node, verb="upgrade")
        time.sleep(2)
        node.kubectl("delete", "mutatingwebhookconfiguration", "azure-wi-webhook-mutating-webhook-configuration")
        time.sleep(2)
        left = [item for item in objects if item["kind"] not in {"Namespace", "MutatingWebhookConfiguration"}]
        node.kubectl("delete", "--wait=true", "-f", "-", text="\n---\n".join(json.dumps(item) for item in left))
        time.sleep(3)
    admissions.check()
    report(f"migration: {admissions.injected} admissions meanwhile, none failed")
    node.helm("uninstall", RELEASE, "--namespace", SYSTEM, "--wait", "--timeout=120s")
    with contextlib.suppress(AssertionError):
        wait(lambda: not owned(node, ORIGINAL) + owned(node, SYSTEM))
    assert [] == owned(node, ORIGINAL) + owned(node, SYSTEM)
