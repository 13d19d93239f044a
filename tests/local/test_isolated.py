"""`azwi run --isolated --proxy`: programs that know nothing of emulators, at the addresses they know."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from azwi.local.demo import isolation_problem

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., subprocess.CompletedProcess[str]]

AZWI = Path(sys.executable).with_name("azwi")
EXAMPLES = Path(__file__).parents[2] / "examples"
CLIENT = "22222222-2222-2222-2222-222222222222"
IMDS = "http://169.254.169.254/metadata"
TOKEN = f"{IMDS}/identity/oauth2/token?api-version=2018-02-01&resource=https://vault.azure.net"
SHOW = """
import jwt
claims = jwt.decode(token, options={"verify_signature": False})
print(claims["appid"], claims["iss"])
"""
WORKLOAD = (
    """
from azure.identity import WorkloadIdentityCredential
with WorkloadIdentityCredential() as credential:
    token = credential.get_token("https://vault.azure.net/.default").token
"""
    + SHOW
)
MANAGED = (
    """
import os
from azure.identity import ManagedIdentityCredential
del os.environ["AZURE_FEDERATED_TOKEN_FILE"]  # else it would use the token itself
with ManagedIdentityCredential() as credential:
    token = credential.get_token("https://vault.azure.net/.default").token
"""
    + SHOW
)
MSAL = (
    """
import msal, requests
client = msal.ManagedIdentityClient(msal.SystemAssignedManagedIdentity(), http_client=requests.Session())
token = client.acquire_token_for_client(resource="https://vault.azure.net")["access_token"]
"""
    + SHOW
)

pytestmark = [pytest.mark.programs, pytest.mark.skipif(bool(isolation_problem()), reason=isolation_problem())]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a command isolated, with the proxy."""

    def ran(*command: str, proxy: bool = True) -> subprocess.CompletedProcess[str]:
        arguments = ["-f", str(EXAMPLES / "imds-proxy.yaml"), "--isolated", *(["--proxy"] if proxy else [])]
        return subprocess.run(
            [AZWI, "run", *arguments, "--", *command],
            env={"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "TMPDIR": str(tmp_path), "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return ran


@pytest.mark.parametrize("program", [WORKLOAD, MANAGED, MSAL])
def test_unmodified_python_programs(program: str, run: Run) -> None:
    """azure-identity and msal with no option at all, as the identity of the manifest, from the real issuer's name."""
    found = run(sys.executable, "-c", program)
    issuer = "https://sts.windows.net/11111111-1111-1111-1111-111111111111/"
    assert f"{CLIENT} {issuer}\n" == found.stdout, found.stderr


def test_curl_at_the_metadata_address(run: Run) -> None:
    """The redirect answers for the proxy's port, and the proxy lets other metadata through to the node's."""
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    found = run("sh", "-c", f"curl -sS -H Metadata:true '{TOKEN}'; echo; curl -sS -H Metadata:true "
                f"'{IMDS}/instance/compute/location?api-version=2021-02-01&format=text'")  # fmt: skip
    token, location = found.stdout.splitlines()
    assert (CLIENT, "emulated") == (json.loads(token)["client_id"], location)
    assert "set in iptables" in found.stderr


def test_without_the_proxy_the_node_answers(run: Run) -> None:
    """The emulated node has no identity of its own, and the world outside is not there."""
    found = run(
        "sh",
        "-c",
        f"curl -sS -H Metadata:true '{TOKEN}'; echo; curl -sS -m 5 http://192.0.2.1 || echo alone",
        proxy=False,
    )
    assert "Identity not found" in found.stdout
    assert found.stdout.endswith("alone\n")


def test_machine_wide_trust(run: Run) -> None:
    """A program that reads no variable trusts the emulator by the machine's bundle."""
    bundle = "/etc/ssl/certs/ca-certificates.crt"
    if not Path(bundle).exists():
        pytest.skip("the machine has no bundle")
    found = run("env", "-i", "curl", "-sS", "--cacert", bundle, "https://login.microsoftonline.com/")
    assert "no identity provider" in found.stdout, found.stderr


def test_a_namespace_with_one_user_is_told(tmp_path: Path) -> None:
    """The proxy needs a user of its own; where there is none, that and what to do about it are named."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("unshare is not installed")
    found = subprocess.run(
        [unshare, "-r", AZWI, "run", "-f", EXAMPLES / "imds-proxy.yaml", "--isolated", "--proxy", "--", "true"],
        env={"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "TMPDIR": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert 1 == found.returncode
    assert "the namespace has no user 1501 for azwi-proxy; install newuidmap" in found.stderr
