"""Unmodified programs that know the metadata service only: its real address, the real redirect, the real proxy.

`azwi run --isolated --proxy` takes the Pod through the webhook, runs azwi-proxy-init and azwi-proxy as its containers
say, and the program beside them. The only identity that the emulated machine itself has is another one, so a token of
the Pod's identity can have come through the proxy only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import jwt
import pytest

from azwi.local.demo import isolation_problem

AZWI: Final = Path(sys.executable).with_name("azwi")
EXAMPLES: Final = Path(__file__).parents[3] / "examples"
ORDERS: Final = "22222222-2222-2222-2222-222222222222"
VAULT: Final = "https://vault.azure.net"

pytestmark = pytest.mark.skipif(bool(isolation_problem()), reason=isolation_problem())


def run(program: list[str], lines: str, folder: Path) -> str:
    """What a program of the Pod prints that has neither token file nor identity in its environment."""
    without = [f"--unset=AZURE_{name}" for name in ("FEDERATED_TOKEN_FILE", "CLIENT_ID", "TENANT_ID")]
    done = subprocess.run(
        [AZWI, "run", "-f", EXAMPLES / "one-to-one.yaml", "--isolated", "--proxy", "--", "env", *without, *program],
        input=lines,
        env={"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "TMPDIR": str(folder), "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    assert "verified" in done.stderr
    return done.stdout


def claims(token: str) -> dict[str, Any]:
    """What a token says."""
    found: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return found


@pytest.mark.parametrize(
    "order", [{"managed": True}, {"managed": True, "clientId": ORDERS}, {"default": True}], ids=str
)
@pytest.mark.parametrize("language", ["azure-identity", "node", "go"])
def test_sdks(language: str, order: dict[str, Any], programs: dict[str, list[str]], tmp_path: Path) -> None:
    """ManagedIdentityCredential without and with a client id, and DefaultAzureCredential, which finds it by itself."""
    if language not in programs:
        pytest.skip(f"{language} is not installed")
    orders = [{**order, "scope": f"{VAULT}/.default", "retries": 0}] * 2
    answers = run(programs[language], "".join(f"{json.dumps(one)}\n" for one in orders), tmp_path).splitlines()
    for answer in map(json.loads, answers):
        assert "token" in answer, answer
        found = claims(answer["token"])
        assert (ORDERS, VAULT) == (found["appid"], found["aud"])
        assert abs(answer["expires"] - found["exp"]) < 10


def test_java(programs: dict[str, list[str]], tmp_path: Path) -> None:
    """HttpURLConnection, as JDBC drivers use it, and a refusal as it sees it."""
    if "java" not in programs:
        pytest.skip("java is not installed")
    good, bad = run(programs["java"], "https://database.windows.net/\nhttps://unheard.of\n", tmp_path).splitlines()
    status, _, body = good.partition(" ")
    assert "200" == status, good
    assert (ORDERS, "https://database.windows.net/") == (
        claims(json.loads(body)["access_token"])["appid"],
        json.loads(body)["resource"],
    )
    assert json.loads(body)["expires_on"].isdigit()
    assert bad.startswith("400 ")
    assert "AADSTS500011" in bad


def test_curl(tmp_path: Path) -> None:
    """The documentation's example; what is not for Pods stays out of reach, and the machine's metadata does not."""
    script = (
        "curl -sS -H Metadata:true "
        f"'http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource={VAULT}'; echo; "
        "curl -sS -o /dev/null -w '%{http_code}\\n' -H Metadata:true 'http://169.254.169.254/metadata/identity/info'; "
        "curl -sS -H Metadata:true 'http://169.254.169.254/metadata/instance/compute/location?api-version=2021-02-01"
        "&format=text'"
    )
    token, other, location = run(["sh", "-c", script], "", tmp_path).splitlines()
    assert ORDERS == claims(json.loads(token)["access_token"])["appid"]
    assert ("403", "emulated") == (other, location)
