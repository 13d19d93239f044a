"""The node with all that is on it, as tests see it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from archives import write_image

from azwi.version import __version__
from entra import ACCOUNT, CLIENT, TENANT, Entra, Metadata, manifest

if TYPE_CHECKING:
    from node import Node

REPOSITORY = Path(__file__).parents[3]
CHART = REPOSITORY / "charts" / "azure-workload-identity"
IMAGE = f"localhost/azure-workload-identity:{__version__}"
TRUSTING = f"localhost/azwi-trusting:{__version__}"  # the same, with Entra's certificate authority among the trusted
PYTHON = "localhost/sdk-python:1"
SYSTEM = "azwi-system"
RELEASE = "azwi"
FULL = "azwi-azure-workload-identity"  # the name that its objects begin with
BUNDLE = "etc/ssl/certs/ca-certificates.crt"
HERE = Path(__file__).parents[1] / "node"


@dataclass(frozen=True)
class World:
    """All of it."""

    node: Node
    entra: Entra
    metadata: Metadata
    installed: float  # seconds that `helm install --wait` took
    bundle: bytes  # PEM: what this machine trusts, and Entra's authority


def report(line: str) -> None:
    """A measured figure; the end of the run prints them all."""
    FIGURES.append(line)


FIGURES: list[str] = []
VALUES = [
    f"--set=azureTenantID={TENANT}",
    f"--set=image.repository={IMAGE.partition(':')[0]}",
    f"--set=proxy.image.repository={TRUSTING.partition(':')[0]}",
    "--set=annotatedNamespaces.enabled=true",
    "--set=podCheckIntervalSeconds=5",
    "--set=logLevel=debug",
]


def account(namespace: str) -> dict[str, object]:
    """The service account that Entra trusts."""
    annotations = {"azure.workload.identity/client-id": CLIENT}
    return manifest("v1", "ServiceAccount", ACCOUNT, namespace, annotations=annotations)


def python_image(node: Node, bundle: bytes, folder: Path) -> Path:
    """azure-identity and the program, on the product's own interpreter; installed by pip for that interpreter."""
    wheels = next((REPOSITORY / ".image").glob("wheels-*"))
    release = wheels.name.removeprefix("wheels-")
    platforms = [f"--platform=manylinux{glibc}_x86_64" for glibc in ("2014", "_2_17", "_2_28", "_2_34")]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), "--only-binary=:all:"]
    subprocess.run(
        [*pip, f"--python-version={release}", "--implementation=cp", *platforms, "azure-identity"], check=True
    )
    files: dict[str, Path | bytes] = {BUNDLE: bundle, "sdk/packages": folder, "sdk/ask.py": HERE / "ask.py"}
    files["sdk/client.py"] = HERE.parent / "sdks" / "python" / "client.py"
    environment = ["PATH=/opt/azwi/bin:/usr/sbin:/usr/bin", "PYTHONPATH=/sdk/packages", "PYTHONUNBUFFERED=1"]
    environment += [f"{name}=/{BUNDLE}" for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")]
    return write_image(
        node.folder / "python.tar",
        PYTHON,
        files,
        base=node.image,
        Entrypoint=["python3"],
        Cmd=[],
        Env=environment,
        User="1000",
    )
