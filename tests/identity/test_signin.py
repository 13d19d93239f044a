"""Every way to sign in, for real: the tokens are what the emulated Graph accepts."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from client_certificate import make_certificate
from cluster_standin import running_cluster
from identity_lab import OPERATOR, SECRET, STATE, SUBSCRIPTION, TENANT, Lab

from azwi.cli.main import main
from azwi.cli.options import SignInOptions
from azwi.cli.session import find_place, plan_sign_in
from azwi.emulator.client import emulate
from azwi.entra.clouds import US_GOVERNMENT
from azwi.errors import ConfigurationError
from azwi.identity.model import OrderError

if TYPE_CHECKING:
    from pathlib import Path

APP = ("sa", "create", "phase", "app", "--aad-application-name=orders")


def place(lab: Lab) -> list[str]:
    """Where everything is, and which subscription."""
    return [*lab.place(), f"--subscription-id={SUBSCRIPTION}"]


def install_az(lab: Lab, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """A program called az, first in PATH."""
    folder = lab.folder / "bin"
    folder.mkdir(exist_ok=True)
    program = folder / "az"
    program.write_text("#!/bin/sh\n" + script)
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return lab.folder / "asked"


def token_for(lab: Lab, resource: str) -> str:
    """A token of the operator."""
    form = {
        "grant_type": "client_credentials",
        "client_id": OPERATOR,
        "client_secret": SECRET,
        "scope": f"{resource}/.default",
    }
    return str(lab.emulator._http.post(f"{TENANT}/oauth2/v2.0/token", data=form).json()["access_token"])


def test_the_azure_cli(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked once for each service, for the tenant of the subscription, whatever is done with the token."""
    answer = {"accessToken": token_for(lab, lab.emulator.graph), "expires_on": int(time.time()) + 3600}
    asked = install_az(lab, monkeypatch, f"echo \"$@\" >> '{lab.folder}/asked'\necho '{json.dumps(answer)}'\n")
    assert 0 == main([*APP, *place(lab)])
    (line,) = asked.read_text().splitlines()
    assert f"account get-access-token --output json --scope {lab.emulator.graph}/.default --tenant {TENANT}" == line


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'Please run az login' >&2; exit 1", f"Please run az login; run: az login --tenant {TENANT}"),
        ("echo nothing", "something that is no token; update it: az upgrade"),
        ("echo '{}'", "something that is no token"),
    ],
)
def test_an_azure_cli_that_gives_none(
    script: str, words: str, lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own words, and what to run."""
    install_az(lab, monkeypatch, script)
    assert 1 == main([*APP, *place(lab)])
    assert words in capsys.readouterr().err


def test_no_azure_cli(lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The other ways are pointed to."""
    monkeypatch.setenv("PATH", str(lab.folder))
    assert 1 == main([*APP, *place(lab)])
    assert "the Azure CLI (az) is not installed" in capsys.readouterr().err


def test_workload_identity(lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """As in a Pod: variables and a token file, without a secret."""
    operator = lab.create_application("deployer")
    lab.create_credential("deployer", "deployer", lab.emulator.issuer, "system:serviceaccount:ci:deployer")
    token_file = lab.folder / "token"
    token_file.write_text(lab.emulator.service_account_token("ci", "deployer", "api://AzureADTokenExchange") + "\n")
    monkeypatch.setenv("AZURE_CLIENT_ID", operator["appId"])
    monkeypatch.setenv("AZURE_TENANT_ID", TENANT)
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(token_file))
    assert 0 == main([*APP, *lab.place(), "--auth-method=workload_identity"])
    assert ["deployer", "orders"] == lab.applications()
    token_file.unlink()
    assert 1 == main([*APP, *lab.place(), "--auth-method=workload_identity"])
    assert "AZURE_FEDERATED_TOKEN_FILE) cannot be read" in capsys.readouterr().err


def test_a_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference's flags, with PEM files."""
    monkeypatch.setenv("HOME", str(tmp_path))
    certificate, key = make_certificate()
    state: dict[str, Any] = json.loads(json.dumps(STATE))
    state["tenants"][0]["applications"][0]["certificates"] = [certificate]
    (tmp_path / "state.yaml").write_text(yaml.safe_dump(state))
    (tmp_path / "c.pem").write_text(certificate)
    (tmp_path / "k.pem").write_text(key)
    with (
        emulate(tmp_path / "state.yaml", tmp_path / "run") as emulator,
        running_cluster(emulator.service_account_token, emulator.issuer) as cluster,
    ):
        lab = Lab(emulator, cluster, tmp_path)
        flags = [f"--certificate-path={tmp_path}/c.pem", f"--private-key-path={tmp_path}/k.pem"]
        assert 0 == main([*APP, *place(lab), "--auth-method=client_certificate", f"--client-id={OPERATOR}", *flags])
        assert ["orders"] == lab.applications()


@pytest.mark.parametrize("by", ["client-id", "system"])
def test_a_managed_identity(by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the virtual machine that azwi runs on: the metadata service gives the token."""
    identity = {"name": "machine", "clientId": "77777777-7777-7777-7777-777777777777"}
    state: dict[str, Any] = json.loads(json.dumps(STATE))
    state["tenants"][0]["managedIdentities"] = [identity]
    (tmp_path / "state.yaml").write_text(yaml.safe_dump(state))
    with (
        emulate(tmp_path / "state.yaml", tmp_path / "run", imds_port=0) as emulator,
        running_cluster(emulator.service_account_token, emulator.issuer) as cluster,
    ):
        lab = Lab(emulator, cluster, tmp_path)
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", emulator.imds)
        flags = [f"--client-id={identity['clientId']}"] if by == "client-id" else []
        assert 0 == main([*APP, *place(lab), "--auth-method=managed_identity", *flags])
        assert ["orders"] == lab.applications()
        assert ["ok"] == [one["outcome"] for one in emulator.journal("imds")]


# --- Options --------------------------------------------------------------------------------------------


def test_a_client_id_and_a_secret_imply_the_method(tmp_path: Path) -> None:
    """As in the reference; a client id alone does not."""
    both = SignInOptions(client_id=OPERATOR, client_secret="x", subscription_id=SUBSCRIPTION)  # a mark
    assert "client_secret" == plan_sign_in(both, {}, tmp_path).credentials.method
    one = SignInOptions(client_id=OPERATOR, subscription_id=SUBSCRIPTION)
    assert "cli" == plan_sign_in(one, {}, tmp_path).credentials.method


def test_the_tenant_of_the_environment_counts_only_where_nothing_else_says_it(tmp_path: Path) -> None:
    """A subscription has its own; without one, and in a Pod, the variable is all there is."""
    environment = {"AZURE_TENANT_ID": TENANT, "AZURE_CLIENT_ID": OPERATOR, "AZURE_FEDERATED_TOKEN_FILE": "/x"}
    assert "" == plan_sign_in(SignInOptions(subscription_id=SUBSCRIPTION), environment, tmp_path).tenant_id
    assert TENANT == plan_sign_in(SignInOptions(), environment, tmp_path).tenant_id
    pod = SignInOptions(subscription_id=SUBSCRIPTION, auth_method="workload_identity")
    assert TENANT == plan_sign_in(pod, environment, tmp_path).tenant_id
    with pytest.raises(OrderError, match="--subscription-id is required"):
        plan_sign_in(SignInOptions(), {}, tmp_path)


def test_clouds_by_name_by_file_and_by_flags(tmp_path: Path) -> None:
    """A private one is named whole: nothing of it falls back to a public address."""
    assert US_GOVERNMENT == find_place(SignInOptions(azure_env="AzureUSGovernment"), {})
    private = find_place(
        SignInOptions(authority_host="https://login.example/adfs", resource_manager_endpoint="https://arm.example/"), {}
    )
    assert ("https://login.example/adfs/", "", "https://arm.example") == (
        private.authority_host,
        private.graph,
        private.resource_manager,
    )
    path = tmp_path / "stack.json"
    known = {"activeDirectoryEndpoint": "https://stack.example/"}
    for name in ("graphEndpoint", "resourceManagerEndpoint"):
        path.write_text(json.dumps(known | {name: "http://stack.example/"}))
        with pytest.raises(ConfigurationError, match=f"{name} in .*'http://stack.example/' is no authority"):
            find_place(SignInOptions(azure_env="AzureStackCloud"), {"AZURE_ENVIRONMENT_FILEPATH": str(path)})
    path.write_text(json.dumps(known | {"graphEndpoint": "https://graph.stack.example/"}))
    stack = find_place(SignInOptions(azure_env="AzureStackCloud"), {"AZURE_ENVIRONMENT_FILEPATH": str(path)})
    assert ("https://graph.stack.example", "") == (stack.graph, stack.resource_manager)
    path.write_text(json.dumps(known))
    stack = find_place(SignInOptions(azure_env="AzureStackCloud"), {"AZURE_ENVIRONMENT_FILEPATH": str(path)})
    assert ("https://stack.example/", "") == (stack.authority_host, stack.graph)
    path.write_text("")
    with pytest.raises(ConfigurationError, match="is empty"):
        find_place(SignInOptions(azure_env="AzureStackCloud"), {"AZURE_ENVIRONMENT_FILEPATH": str(path)})
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match="it is no text"):
        find_place(SignInOptions(azure_env="AzureStackCloud"), {"AZURE_ENVIRONMENT_FILEPATH": str(path)})
