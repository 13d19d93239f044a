"""A cluster as tests see it: kubectl, kubeconfigs, an HTTP client. Whoever made it, it is a real one."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import time
from typing import TYPE_CHECKING, Any

import httpx2
import yaml

if TYPE_CHECKING:
    from pathlib import Path

READY = 60.0  # seconds
TESTER = "azwi-e2e"


class Cluster:
    """A running cluster.

    Attributes:
        kubeconfig: An administrator's.
        address: The host name by which its API server reaches this machine.
        owned: Whether its API server may be stopped.
    """

    owned = False

    def __init__(self, folder: Path, kubectl: str, kubeconfig: Path, address: str) -> None:
        self.folder = folder
        self.kubeconfig = kubeconfig
        self.address = address
        self._kubectl = [*kubectl.split(), f"--kubeconfig={kubeconfig}", f"--cache-dir={folder / 'cache'}"]

    def kubectl(self, *arguments: str, text: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run kubectl as administrator."""
        command = [*self._kubectl, *arguments]
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=check)

    def apply(self, *documents: dict[str, Any]) -> None:
        """Create objects."""
        self.kubectl("create", "-f", "-", text="\n---\n".join(json.dumps(document) for document in documents))

    def get(self, *arguments: str) -> dict[str, Any]:
        """One object."""
        found: dict[str, Any] = json.loads(self.kubectl("get", "-o", "json", *arguments).stdout)
        return found

    def wait_for(self, *arguments: str) -> None:
        """Repeat a kubectl command until it succeeds."""
        deadline = time.monotonic() + READY
        while (run := self.kubectl(*arguments, check=False)).returncode:
            assert time.monotonic() < deadline, run.stderr
            time.sleep(0.1)

    def _entry(self) -> dict[str, Any]:
        """The cluster of the kubeconfig's context, with its CA as data."""
        shown = self.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json").stdout
        found: dict[str, Any] = json.loads(shown)["clusters"][0]["cluster"]
        return found

    @property
    def url(self) -> str:
        """The API server's."""
        found: str = self._entry()["server"]
        return found

    def write_config(self, name: str, user: dict[str, Any]) -> Path:
        """A kubeconfig with that user."""
        path = self.folder / f"{name}.kubeconfig"
        path.write_text(yaml.safe_dump(render_config(self._entry(), user)))
        return path

    def token(self, account: str, *roles: str) -> str:
        """A token of a service account of the namespace default, which is made, and bound to cluster roles."""
        self.kubectl("create", "serviceaccount", account, check=False)
        for role in roles:
            subject = f"--serviceaccount=default:{account}"
            binding = ["create", "clusterrolebinding", f"{account}-{role}", f"--clusterrole={role}", subject]
            self.kubectl(*binding, check=False)
        return self.kubectl("create", "token", account, "--duration=2h").stdout.strip()

    def http(self, connections: int) -> httpx2.AsyncClient:
        """An administrator's client, for more than kubectl can do; to be closed."""
        authority = base64.b64decode(self._entry()["certificate-authority-data"]).decode()
        return httpx2.AsyncClient(
            base_url=self.url,
            verify=ssl.create_default_context(cadata=authority),
            headers={"Authorization": f"Bearer {self.token(TESTER, 'cluster-admin')}"},
            limits=httpx2.Limits(max_connections=connections),
            timeout=30,
            trust_env=False,
        )


def render_config(cluster: dict[str, Any], user: dict[str, Any]) -> dict[str, Any]:
    """A kubeconfig with one cluster and one user."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": cluster}],
        "users": [{"name": "user", "user": user}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "user"}}],
        "current-context": "lab",
    }
