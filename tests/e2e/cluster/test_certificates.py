"""Certificates of our own in front of a real API server: made, trusted, mended, rotated, handed over (D 21)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from load import pod_load
from relay import service

from azwi.local.processes import free_port
from conftest import CLIENT, account, configuration, pod, started_webhook, variables, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kube import Cluster

    from conftest import Webhook

ANNOTATIONS = {"argocd.argoproj.io/tracking-id": "kept"}


class Installation:
    """A Secret, a Lease, a configuration and a namespace of their own, and webhooks that share them."""

    def __init__(self, cluster: Cluster, folder: Path, name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.port = free_port()
        self._folder = folder
        self._count = 0
        in_namespace = {"name": name, "namespace": name}
        made = configuration(name, cluster.address, self.port)
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
    def replica(self, *flags: str, port: int = 0, kubeconfig: Path | None = None) -> Iterator[Webhook]:
        """One more webhook; by default on the port that API servers call, and with an administrator's rights."""
        self._count += 1
        replica = f"replica-{self._count}"
        names = ("secret-name", "lease-name", "webhook-config-name")
        with started_webhook(
            self.cluster,
            self._folder / replica,
            kubeconfig or self.cluster.kubeconfig,
            *(f"--{flag}={self.name}" for flag in names),
            f"--certificate-names={self.cluster.address}",
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

    def served(self) -> str:
        """The certificate that is served, PEM."""
        return ssl.get_server_certificate((self.cluster.address, self.port))

    def admit(self, index: object = 0) -> bool:
        """Whether a Pod is let in and has its identity; nothing of it stays."""
        made = pod(f"orders-{index}", "orders")
        made["metadata"]["namespace"] = self.name
        create = ["create", "--dry-run=server", "-o", "json", "-f", "-"]
        run = self.cluster.kubectl(*create, text=json.dumps(made), check=False)
        return run.returncode == 0 and CLIENT == variables(json.loads(run.stdout)).get("AZURE_CLIENT_ID")


@pytest.fixture
def installation(cluster: Cluster, tmp_path: Path, name: str) -> Iterator[Installation]:
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


def test_a_bundle_that_somebody_changed_is_mended(installation: Installation) -> None:
    """Within seconds, and only the bundle: what else was changed in the same moment stays."""
    with installation.replica() as webhook:
        webhook.wait_until_ready()
        changes = [
            {"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": ""},
            {"op": "replace", "path": "/webhooks/1/timeoutSeconds", "value": 7},
        ]
        patch = ["patch", "mutatingwebhookconfiguration", installation.name, "--type=json", "-p"]
        installation.cluster.kubectl(*patch, json.dumps(changes))
        authority = installation.secret()["ca.crt"]
        wait_until(lambda: installation.bundles() == [authority] * 2, 10)
        assert 7 == installation.configuration()["webhooks"][1]["timeoutSeconds"]
        wait_until(installation.admit, 10)
        wait_until(lambda: webhook.metric("azwi_ca_bundle_writes_total") == 2, 5)


def test_an_entry_that_is_added_is_trusted_too(installation: Installation) -> None:
    """As by an upgrade of the chart that switches the second entry on."""
    with installation.replica() as webhook:
        webhook.wait_until_ready()
        third = installation.configuration()["webhooks"][0] | {"name": "third.azure-workload-identity.io"}
        del third["clientConfig"]["caBundle"]
        patch = ["patch", "mutatingwebhookconfiguration", installation.name, "--type=json", "-p"]
        installation.cluster.kubectl(*patch, json.dumps([{"op": "add", "path": "/webhooks/-", "value": third}]))
        authority = installation.secret()["ca.crt"]
        wait_until(lambda: installation.bundles() == [authority] * 3, 10)


def test_another_replica_takes_over(installation: Installation) -> None:
    """The leader is killed: the other one, which serves the same certificate, mends what is damaged from then on."""
    with contextlib.ExitStack() as stack:
        replicas = [stack.enter_context(installation.replica(port=port)) for port in (0, free_port())]
        for replica in replicas:
            replica.wait_until_ready()
        wait_until(lambda: sum(replica.metric("azwi_leader") for replica in replicas) == 1, 10)
        leader, other = sorted(replicas, key=lambda replica: -replica.metric("azwi_leader"))
        leader.process.kill()
        patch = ["patch", "mutatingwebhookconfiguration", installation.name, "--type=json", "-p"]
        damage = [{"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": ""}]
        installation.cluster.kubectl(*patch, json.dumps(damage))
        authority = installation.secret()["ca.crt"]
        wait_until(lambda: installation.bundles() == [authority] * 2, 40)
        wait_until(lambda: other.metric("azwi_leader") == 1, 5)
        assert other.is_ready()


def test_a_leader_that_ends_hands_over(installation: Installation) -> None:
    """At SIGTERM the lease is given up, so that nobody waits for it to run out."""
    with installation.replica("--shutdown-delay=0") as webhook:
        webhook.wait_until_ready()
        webhook.process.terminate()
        assert 0 == webhook.process.wait(20)
    lease = installation.cluster.get("lease", installation.name, "-n", installation.name)
    assert not lease["spec"].get("holderIdentity")
    assert "Traceback" not in webhook.output()


@pytest.mark.parametrize("of", ["the reference", "our own"])
def test_rotation_while_pods_are_created(of: str, installation: Installation) -> None:
    """Authority and leaf are replaced while fifty Pods a second come in: each is admitted, and gets its identity."""
    old = near_its_end(installation, rsa.generate_private_key(65537, 2048) if of == "the reference" else None)
    data = {name: base64.b64encode(value).decode() for name, value in old.items()}
    patch = ["patch", "secret", installation.name, "-n", installation.name, "-p", json.dumps({"data": data})]
    installation.cluster.kubectl(*patch)
    with installation.replica() as webhook:
        webhook.wait_until_ready()
        with pod_load(installation.cluster, installation.name, 50) as load:
            wait_until(lambda: installation.secret()["tls.crt"] != old["tls.crt"], 120)
            time.sleep(5)
        assert [] == load.failures
        assert load.injected > 50 * 30
        secret = installation.secret()
        assert isinstance(x509.load_pem_x509_certificate(secret["ca.crt"]).public_key(), ec.EllipticCurvePublicKey)
        assert {"ca.crt", "ca.key", "tls.crt", "tls.key", "previous-ca.crt", "previous-tls.crt"} == set(secret)
        for bundle in installation.bundles():
            assert {secret["ca.crt"].strip(), old["ca.crt"].strip()} == set(split(bundle))
        steps = [line["step"] for line in webhook.said() if line["message"] == "certificates kept"]
        assert ["prepare", "trust", "replace"] == steps[:3]
        assert "PRIVATE" not in webhook.output()


@pytest.mark.parametrize("what", ["emptied", "put back"])
def test_a_secret_that_somebody_changed_while_pods_are_created(what: str, installation: Installation) -> None:
    """Emptied to start from nothing, or put back from a backup: each Pod is admitted, before and after the change."""
    secret = {} if what == "emptied" else near_its_end(installation, None, days=300)
    data = {name: base64.b64encode(value).decode() for name, value in secret.items()}
    with installation.replica() as webhook:
        webhook.wait_until_ready()
        served, authority = installation.served(), installation.secret()["ca.crt"]
        with pod_load(installation.cluster, installation.name, 50) as load, callers(installation) as strangers:
            time.sleep(1)
            patch = json.dumps([{"op": "add", "path": "/data", "value": data}])
            installation.cluster.kubectl(
                "patch", "secret", installation.name, "-n", installation.name, "--type=json", "-p", patch
            )
            wait_until(lambda: served != installation.served(), 90)
            time.sleep(5)
        assert ([], []) == (load.failures, strangers)
        assert load.injected > 50 * 60
        assert installation.secret()["tls.crt"].decode().strip() == installation.served().strip()
        for bundle in installation.bundles():
            assert {installation.secret()["ca.crt"].strip(), authority.strip()} == set(split(bundle))


@contextlib.contextmanager
def callers(installation: Installation) -> Iterator[list[str]]:
    """New connections again and again, as of API servers that trust what the configuration says; gives what they met.

    The API server itself keeps the connections that it has, and meets a new certificate once in a while only.
    """
    refused: list[str] = []
    over = threading.Event()

    def greet(bundle: str) -> None:
        trusting = ssl.create_default_context(cadata=base64.b64decode(bundle).decode())
        with socket.create_connection((installation.cluster.address, installation.port), 5) as connection:
            try:
                with trusting.wrap_socket(connection, server_hostname=installation.cluster.address):
                    pass
            except ssl.SSLError as problem:
                refused.append(str(problem))

    async def call() -> None:
        path = f"/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{installation.name}"
        async with installation.cluster.http(1) as client:
            while not over.is_set():
                for entry in (await client.get(path)).json()["webhooks"]:
                    greet(entry["clientConfig"]["caBundle"])
                await asyncio.sleep(0.01)

    thread = threading.Thread(target=asyncio.run, args=(call(),))
    thread.start()
    try:
        yield refused
    finally:
        over.set()
        thread.join()


def test_a_rollout_under_load(installation: Installation) -> None:
    """Two replicas are replaced one after the other behind one address, as a Deployment would: nothing is lost."""
    with service(installation.port) as replicas, contextlib.ExitStack() as stack:

        def start() -> Webhook:
            webhook = stack.enter_context(installation.replica("--shutdown-delay=5", port=free_port()))
            webhook.wait_until_ready()
            replicas.add(webhook)
            return webhook

        old = [start(), start()]
        with pod_load(installation.cluster, installation.name, 50) as load:
            time.sleep(2)
            for webhook in old:
                start()
                webhook.process.terminate()
                assert 0 == webhook.process.wait(30)
            time.sleep(2)
        assert [] == load.failures
        assert load.injected > 100


def test_the_documented_rights_suffice(installation: Installation) -> None:
    """With what docs/webhook.md lists and nothing more: certificates, an Event, a look at Pods, and no complaint."""
    kube, name = installation.cluster, installation.name
    rules = {
        "serviceaccounts": "get,list,watch",
        f"mutatingwebhookconfigurations/{name}": "list,watch,patch",
        "events": "create",
        "pods": "list",
        f"secrets/{name}": "list,watch,patch",
        f"leases/{name}": "get,update",
    }
    account_name = f"webhook-{name}"
    token = kube.token(account_name)
    for number, (what, verbs) in enumerate(rules.items()):
        resource, _, only = what.partition("/")
        named = [f"--resource-name={only}"] if only else []
        role, binding, where = ["clusterrole"], ["clusterrolebinding"], []
        if resource in {"secrets", "leases"}:
            role, binding, where = ["role"], ["rolebinding"], ["-n", name]
        made = f"{account_name}-{number}"
        kube.kubectl("create", *role, made, f"--verb={verbs}", f"--resource={resource}", *named, *where)
        subject = f"--serviceaccount=default:{account_name}"
        kube.kubectl("create", *binding, made, f"--{role[0]}={made}", subject, *where)
    config = kube.write_config(account_name, {"token": token})
    with installation.replica("--pod-check-interval=1", "--log-level=debug", kubeconfig=config) as webhook:
        webhook.wait_until_ready()
        assert installation.admit()
        bare = account("bare", None)
        installation.apply(bare)
        installation.apply(pod("bare", "bare"))
        wait_until(lambda: webhook.metric('azwi_events_total{result="written"}') >= 1, 20)
        wait_until(lambda: any(line["message"] == "Pods looked at" for line in webhook.said()), 20)
        complaints = [line for line in webhook.said() if "forbidden" in str(line)]
        assert [] == complaints


def test_what_readiness_waits_for_is_told(installation: Installation) -> None:
    """A configuration of another name: the replica serves nobody, and says why."""
    with installation.replica("--webhook-config-name=elsewhere") as webhook:
        told = "our authority in every caBundle of MutatingWebhookConfiguration elsewhere"
        wait_until(lambda: any(told == line.get("missing") for line in webhook.said()), 30)
        assert not webhook.is_ready()


def near_its_end(installation: Installation, key: rsa.RSAPrivateKey | None, days: int = 30) -> dict[str, bytes]:
    """A Secret whose authority has days to live; RSA and PKCS#1 as the Go original's, or EC as ours."""
    keys: list[Any] = [key or ec.generate_private_key(ec.SECP256R1())]
    keys.append(rsa.generate_private_key(65537, 2048) if key else ec.generate_private_key(ec.SECP256R1()))
    start, end = datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC) + timedelta(days=days)
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "azure-workload-identity-ca")])

    def build(subject: x509.Name, of: Any) -> x509.CertificateBuilder:  # noqa: ANN401
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(of.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
        )

    constraints = x509.BasicConstraints(ca=True, path_length=None)
    authority = build(issuer, keys[0]).add_extension(constraints, critical=True).sign(keys[0], hashes.SHA256())
    service_name = f"azure-wi-webhook-webhook-service.{installation.name}.svc"
    names = (installation.cluster.address, service_name)
    alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "webhook")])
    leaf = build(subject, keys[1]).add_extension(alternatives, critical=False).sign(keys[0], hashes.SHA256())

    def pem(of: Any) -> bytes:  # noqa: ANN401
        form = serialization.PrivateFormat.TraditionalOpenSSL
        found: bytes = of.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        return found

    return {
        "ca.crt": authority.public_bytes(serialization.Encoding.PEM),
        "ca.key": pem(keys[0]),
        "tls.crt": leaf.public_bytes(serialization.Encoding.PEM),
        "tls.key": pem(keys[1]),
    }


def split(bundle: bytes) -> list[bytes]:
    """The certificates of a bundle."""
    end = b"-----END CERTIFICATE-----"
    return [part.strip() + b"\n" + end for part in bundle.split(end) if part.strip()]
