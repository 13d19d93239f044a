"""The whole way: made, proven by a token, moved to another issuer, taken away, and nothing is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import jwt
import pytest
import yaml
from cluster_standin import running_cluster
from identity_lab import GROUP, IDENTITY, STATE, TENANT, Lab, at_once, results

from azwi.emulator.client import EmulatorClient, emulate
from azwi.local.processes import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.programs
PROXY = Path(sys.executable).with_name("azwi-proxy")
AUDIENCE = "api://AzureADTokenExchange"
APPLICATION = ("--aad-application-name=orders",)


@pytest.fixture
def labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Lab, EmulatorClient]]:
    """A lab, and the issuer of another cluster that its Entra can reach."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
    (tmp_path / "state.yaml").write_text(yaml.safe_dump(STATE))
    with (
        emulate(tmp_path / "state.yaml", tmp_path / "other") as other,
        emulate(tmp_path / "state.yaml", tmp_path / "one", trust=Path(other.ca_file)) as one,
        running_cluster(one.service_account_token, one.issuer) as cluster,
    ):
        yield Lab(one, cluster, tmp_path), other


@contextmanager
def running_proxy(lab: Lab, token: str) -> Iterator[str]:
    """The real azwi-proxy of a Pod that has this service account token; its address."""
    token_file = lab.folder / "token"
    token_file.write_text(token)
    port, metrics = free_port(), free_port()
    annotations = lab.cluster.annotations("shop", "orders")
    environment = {
        "PATH": os.environ["PATH"],
        "AZURE_CLIENT_ID": annotations["client-id"],
        "AZURE_TENANT_ID": annotations["tenant-id"],
        "AZURE_FEDERATED_TOKEN_FILE": str(token_file),
        "AZURE_AUTHORITY_HOST": lab.emulator.authority,
        "SSL_CERT_FILE": lab.emulator.ca_file,
    }
    command = [str(PROXY), f"--proxy-port={port}", f"--metrics-addr=127.0.0.1:{metrics}"]
    log = lab.folder / "proxy.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 10
        while "listening" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def ask(proxy: str) -> tuple[int, dict[str, Any]]:
    """What the proxy answers a program that knows the metadata service only."""
    url = f"{proxy}/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://vault.azure.net"
    try:
        with urlopen(Request(url, headers={"Metadata": "true"}), timeout=30) as answer:  # noqa: S310  # loopback
            return answer.status, json.load(answer)
    except OSError as problem:
        return getattr(problem, "code", 0), {}


@pytest.mark.parametrize("identity", [APPLICATION, IDENTITY], ids=["application", "managed-identity"])
def test_the_whole_flow(
    identity: tuple[str, ...], labs: tuple[Lab, EmulatorClient], capsys: pytest.CaptureFixture[str]
) -> None:
    """Created and proven, a program behind the real proxy gets a token; with the new cluster too; then all is gone."""
    lab, other = labs
    role = ("--azure-role=Reader", f"--azure-scope={GROUP}")
    assert 0 == lab.run("serviceaccount", "create", *lab.account(), *identity, *role, "--wait", "-o", "json")
    created = json.loads(capsys.readouterr().out)
    assert {"created"} == {result for _, result in results(created)}
    assert [("shop/orders", "granted")] == [(one["serviceAccount"], one["result"]) for one in created["tokens"]]

    with running_proxy(lab, lab.emulator.service_account_token("shop", "orders", AUDIENCE)) as proxy:
        status, answer = ask(proxy)
    claims = jwt.decode(answer["access_token"], options={"verify_signature": False})
    assert (200, created["identity"]["clientId"], TENANT) == (status, claims["appid"], claims["tid"])
    assert created["identity"]["principalId"] == claims["oid"] == lab.assignments()[0]["properties"]["principalId"]

    issuers = (f"--from-issuer={lab.emulator.issuer}", f"--to-issuer={other.issuer}")
    assert 0 == lab.run("credential", "sync", *identity, *issuers, "--yes", "-o", "json")
    moved = json.loads(capsys.readouterr().out)
    assert ["created", "deleted"] == [result for _, result in results(moved)]
    with running_proxy(lab, other.service_account_token("shop", "orders", AUDIENCE)) as proxy:
        assert 200 == ask(proxy)[0]
    with running_proxy(lab, lab.emulator.service_account_token("shop", "orders", AUDIENCE)) as proxy:
        assert 400 == ask(proxy)[0]

    end = ["--skip-phases=role-assignment"] if identity is APPLICATION else []
    if identity is APPLICATION:
        assert 0 == lab.run(
            "sa", "delete", "phase", "role-assignment", f"--role-assignment-id={lab.assignments()[0]['id']}"
        )
    assert 0 == lab.run("sa", "delete", *lab.account(issuer=other.issuer), *identity, *end)
    assert ([], [], [], {}) == (lab.applications(), lab.identities(), lab.assignments(), lab.cluster.objects)


@pytest.mark.parametrize(
    ("identity", "writes"),
    [*((APPLICATION, number) for number in range(1, 6)), *((IDENTITY, number) for number in range(1, 5))],
    ids=str,
)
def test_killed_in_the_middle_and_run_again(
    identity: tuple[str, ...], writes: int, lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed between its n-th write and the answer to it, the same command then ends where it would have."""
    role = ("--azure-role=Reader", f"--azure-scope={GROUP}")
    arguments = ["sa", "create", *lab.account(), *identity, *role, "-ojson"]
    kill_after_writes(lab, arguments, writes)

    assert 0 == lab.run(*arguments)

    document = json.loads(capsys.readouterr().out)
    managed = identity is IDENTITY
    whole = 4 if managed else 5
    assert ["unchanged"] * writes + ["created"] * (whole - writes) == [one for _, one in results(document)]
    assert ([] if managed else ["orders"], ["orders"] if managed else []) == (lab.applications(), lab.identities())
    credentials = lab.identity_credentials("orders") if managed else lab.application_credentials("orders")
    assert (1, 1) == (len(credentials), len(lab.assignments()))
    assert {"client-id", "tenant-id"} == lab.cluster.annotations("shop", "orders").keys()


def kill_after_writes(lab: Lab, arguments: list[str], writes: int) -> None:
    """Run azwi in a process of its own, and kill it once it has made so many writes, before it sees that it did."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(lab.folder), "NO_PROXY": "localhost,127.0.0.1"}
    program = Path(sys.executable).with_name("azwi")
    lab.slow_down(0.3)
    process = subprocess.Popen(
        [str(program), *arguments, *lab.flags()], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while lab.count_writes() < writes:
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
        lab.slow_down(0.0)
    assert writes == lab.count_writes()


def test_killed_while_deleting_and_run_again(lab: Lab) -> None:
    """What was deleted already is no error the second time."""
    role = ("--azure-role=Reader", f"--azure-scope={GROUP}")
    assert 0 == lab.run("sa", "create", *lab.account(), *IDENTITY, *role)
    made = lab.count_writes()
    for writes in (1, 2, 3):
        kill_after_writes(lab, ["sa", "delete", *lab.account(), *IDENTITY, "--yes"], made + writes)

    assert 0 == lab.run("sa", "delete", *lab.account(), *IDENTITY)

    assert ([], [], {}) == (lab.identities(), lab.assignments(), lab.cluster.objects)


@pytest.mark.parametrize("identity", [APPLICATION, IDENTITY], ids=["application", "managed-identity"])
def test_twenty_at_once_on_one_identity(identity: tuple[str, ...], lab: Lab) -> None:
    """Twenty service accounts get the same identity at the same time; the room is just enough, nobody is lost."""
    codes: dict[int, int] = {}
    assert 0 == lab.run("sa", "create", *lab.account("orders-0"), *identity, "--skip-phases=role-assignment")

    def create(number: int) -> None:
        arguments = ["sa", "create", *lab.account(f"orders-{number}"), *identity, "--skip-phases=role-assignment"]
        codes[number] = lab.run(*arguments)

    at_once(20, create)

    managed = identity is IDENTITY
    credentials = lab.identity_credentials("orders") if managed else lab.application_credentials("orders")
    subjects = {one.get("subject") or one["properties"]["subject"] for one in credentials}
    assert {f"system:serviceaccount:shop:orders-{number}" for number in range(20)} == subjects
    assert dict.fromkeys(range(20), 0) == codes
    assert 20 == len(lab.cluster.objects)
