"""A real control plane on loopback, for tests: etcd, kube-apiserver, kube-controller-manager; no root needed."""

from __future__ import annotations

import base64
import contextlib
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import trustme
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from kube import Cluster, render_config

from azwi.local.processes import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BUILD = Path(__file__).parents[1] / "kubernetes" / "build.sh"


class ControlPlane(Cluster):
    """A control plane that is started and ended here."""

    owned = True
    host = "127.0.0.1"
    issuer = "https://issuer.invalid"
    names: tuple[str, ...] = ("127.0.0.1", "localhost", "kubernetes.default.svc")
    # Loopback may not be an endpoint's address.
    api_flags: tuple[str, ...] = ("--endpoint-reconciler-type=none", "--authorization-mode=RBAC")

    def __init__(self, folder: Path, program: str, enter: Sequence[str] = ()) -> None:
        """What goes before each program in `enter` lets it run where the cluster is."""
        self.enter = [*enter]
        self._program = program
        self._etcd, self._api, self._peer = free_port(), free_port(), free_port()
        self._ca = trustme.CA()
        self._ca_file = folder / "ca.crt"
        self._ca.cert_pem.write_to_path(str(self._ca_file))
        self.folder = folder
        admin = self._write_kubeconfig("admin", "admin")
        super().__init__(folder, " ".join([*enter, program, "kubectl"]), admin, "localhost")

    def _write_kubeconfig(self, name: str, user: str, group: str = "system:masters") -> Path:
        """A kubeconfig with a client certificate of that user, who may do everything unless the group is another."""
        leaf = self._ca.issue_cert(f"{name}.invalid", common_name=user, organization_name=group)
        user_data = {
            "client-certificate-data": _encode(leaf.cert_chain_pems[0].bytes()),
            "client-key-data": _encode(leaf.private_key_pem.bytes()),
        }
        server = f"https://{self.host}:{self._api}"
        cluster = {"server": server, "certificate-authority-data": _encode(self._ca.cert_pem.bytes())}
        path = self.folder / f"{name}.kubeconfig"
        path.write_text(yaml.safe_dump(render_config(cluster, user_data)))
        return path

    @contextlib.contextmanager
    def running(self) -> Iterator[ControlPlane]:
        """Start all of it; end all of it."""
        with contextlib.ExitStack() as stack:
            address, peer = f"http://127.0.0.1:{self._etcd}", f"http://127.0.0.1:{self._peer}"
            stack.enter_context(
                self._process(
                    "etcd",
                    "--name=lab",
                    f"--data-dir={self.folder / 'etcd'}",
                    "--unsafe-no-fsync",
                    "--log-level=warn",
                    f"--listen-client-urls={address}",
                    f"--advertise-client-urls={address}",
                    f"--listen-peer-urls={peer}",
                    f"--initial-advertise-peer-urls={peer}",
                    f"--initial-cluster=lab={peer}",
                )
            )
            self._write_keys()
            self.start_api_server()
            stack.callback(self.stop_api_server)
            manager = self._write_kubeconfig("manager", "system:kube-controller-manager")
            stack.enter_context(
                self._process(
                    "kube-controller-manager",
                    f"--kubeconfig={manager}",
                    "--leader-elect=false",
                    "--secure-port=0",
                    "--kube-api-qps=200",
                    "--kube-api-burst=400",
                    f"--service-account-private-key-file={self.folder / 'sa.key'}",
                    f"--root-ca-file={self._ca_file}",
                    f"--flex-volume-plugin-dir={self.folder / 'plugins'}",
                )
            )
            self.wait_for("get", "serviceaccount/default", "configmap/kube-root-ca.crt")
            yield self

    def keys_host(self) -> str:
        """Where the discovery document says that the keys are."""
        return f"https://{self.host}:{self._api}"

    def start_api_server(self) -> None:
        """Start the API server, and wait until it is ready."""
        folder = self.folder
        command = [
            *self.enter,
            self._program,
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self._etcd}",
            f"--bind-address={self.host}",
            f"--advertise-address={self.host}",
            f"--secure-port={self._api}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--allow-privileged=true",
            f"--tls-cert-file={folder / 'api.crt'}",
            f"--tls-private-key-file={folder / 'api.key'}",
            f"--client-ca-file={self._ca_file}",
            *self.api_flags,
            f"--service-account-issuer={self.issuer}",
            f"--service-account-key-file={folder / 'sa.pub'}",
            f"--service-account-signing-key-file={folder / 'sa.key'}",
            f"--service-account-jwks-uri={self.keys_host()}/openid/v1/jwks",
            "--profiling=false",
            "--shutdown-delay-duration=0s",
        ]
        with (folder / "kube-apiserver.log").open("ab") as log:
            self._api_server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.wait_for("get", "--raw", "/readyz")

    def stop_api_server(self) -> None:
        """Kill it, as a node that is lost would."""
        if self._api_server is not None:
            self._api_server.kill()
            self._api_server.wait()

    def _write_keys(self) -> None:
        served = self._ca.issue_cert(*self.names)
        served.private_key_pem.write_to_path(str(self.folder / "api.key"))
        served.cert_chain_pems[0].write_to_path(str(self.folder / "api.crt"))
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        (self.folder / "sa.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        (self.folder / "sa.pub").write_bytes(
            key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )

    @contextlib.contextmanager
    def _process(self, *arguments: str) -> Iterator[None]:
        with (
            (self.folder / f"{arguments[0]}.log").open("wb") as log,
            subprocess.Popen(
                [*self.enter, self._program, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            ) as process,
        ):
            try:
                yield
            finally:
                process.kill()


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()
