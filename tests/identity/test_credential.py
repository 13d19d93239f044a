"""azwi credential and azwi apply: what they print, ask, refuse and leave alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from identity_lab import GROUP, IDENTITY, NAME, NO_ROLE, Lab, P, results

from azwi.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable

    Read = Callable[[], dict[str, Any]]


@pytest.mark.parametrize("identity", [(NAME,), IDENTITY], ids=["application", "managed-identity"])
def test_credentials_are_listed_added_and_removed(
    identity: tuple[str, ...], lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whom they trust, whether that is there, the room; adding twice is adding once."""
    assert 0 == lab.run("sa", "create", *lab.account(), *identity, NO_ROLE)
    for _ in range(2):
        assert 0 == lab.run("credential", "add", *lab.account("missing"), *identity)
    trust = ("--name=ci-shop", "--subject=repo:shop", "--service-account-issuer-url=https://ci.example")
    assert 0 == lab.run("credential", "add", *trust, *identity)
    capsys.readouterr()
    assert 0 == lab.run("credential", "list", *identity)
    table = capsys.readouterr().out
    assert "shop/orders exists" in table
    assert "shop/missing missing" in table
    assert "orders uses 3 of 20 federated credentials" in table
    assert 0 == lab.run("credential", "list", *identity, "-ojson")
    listed = json.loads(capsys.readouterr().out)
    assert ("credential list", {"used": 3, "limit": 20}) == (listed["command"], listed["quota"])
    assert 0 == lab.run("credential", "remove", "--name=ci-shop", *identity, "--yes")
    assert 0 == lab.run("credential", "remove", *lab.account("missing"), *identity, "--yes", "-oyaml")
    assert "credential remove" == yaml.safe_load(capsys.readouterr().out)["command"]
    assert 0 == lab.run("credential", "remove", "--name=ci-shop", *identity, "--yes")
    assert 0 == main(["credential", "list", *identity, *lab.flags(), "--kubeconfig=/nonexistent"])
    assert "shop/orders unknown" in capsys.readouterr().out


@pytest.mark.parametrize("identity", [(NAME,), IDENTITY], ids=["application", "managed-identity"])
def test_a_claims_matching_expression(identity: tuple[str, ...], lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """One credential for a namespace; listed with what it says, and left alone the second time."""
    phase = "app" if identity == (NAME,) else "mi"
    assert 0 == lab.run("sa", "create", "phase", phase, *identity)
    expression = "claims['sub'] matches 'system:serviceaccount:shop:*'"
    add = ("credential", "add", *identity, f"--claims-matching-expression={expression}", "--name=all")
    for _ in range(2):
        assert 0 == lab.run(*add, f"--service-account-issuer-url={lab.emulator.issuer}")
    assert "unchanged" in capsys.readouterr().err
    assert 0 == lab.run("credential", "list", *identity)
    listed = capsys.readouterr().out
    assert expression in listed
    assert "orders uses 1 of 20" in listed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list"], "no identity is named"),
        (["list", "--aad-application-name=missing"], "application 'missing' does not exist"),
        (["list", *IDENTITY], "managed identity 'orders' does not exist"),
        (["add", NAME, "--subject=x", "--name=y"], "--name: 'y' must be 3 to 120 letters"),
        (["add", NAME, "--subject=x", "--name=yes"], "--service-account-issuer-url is required"),
        (["add", NAME, "--service-account-issuer-url=https://i"], "give one of --service-account-name, --subject"),
        (["add", NAME, "--service-account-issuer-url=https://i", "--subject=x"], "--name is required"),
        (
            ["add", NAME, "--service-account-issuer-url=https://i", "--subject=x", "--service-account-name=y"],
            "exclude each other",
        ),
        (["remove", NAME], "give --name, or --service-account-name and --service-account-issuer-url"),
        (["sync", NAME, "--from-issuer=https://a", "--to-issuer=https://a"], "are the same"),
    ],
)
def test_credential_commands_that_cannot_work(
    arguments: list[str], words: str, lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    """Told by the options."""
    lab.create_application("orders")
    assert 1 == lab.run("credential", *arguments)
    assert words in capsys.readouterr().err


def test_removing_without_a_terminal_needs_yes(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """The plan is shown, nothing is done, and the way out is told."""
    assert 0 == lab.run("sa", "create", *lab.account(), NAME, NO_ROLE)
    move = ("credential", "sync", NAME, f"--from-issuer={lab.emulator.issuer}", "--to-issuer=https://b.example")
    assert 1 == lab.run(*move)
    told = capsys.readouterr().err
    assert "+ federated credential" in told
    assert "- federated credential" in told
    assert "add --yes" in told
    assert [lab.emulator.issuer] == [one["issuer"] for one in lab.application_credentials("orders")]
    assert 0 == lab.run(*move, "--yes", "--in-place")
    assert ["https://b.example"] == [one["issuer"] for one in lab.application_credentials("orders")]
    assert 1 == lab.run(*move)
    assert "issuers that it trusts: https://b.example" in capsys.readouterr().err


# --- apply ----------------------------------------------------------------------------------------------


def write(lab: Lab, *identities: dict[str, Any]) -> str:
    """A file with these identities."""
    path = lab.folder / "identities.yaml"
    path.write_text(yaml.safe_dump({"issuer": lab.emulator.issuer, "identities": list(identities)}))
    return str(path)


def test_apply(lab: Lab, result: Read) -> None:
    """Many at once, proven by tokens; the second time nothing changes."""
    accounts = [{"namespace": "shop", "name": f"orders-{number}"} for number in range(3)]
    path = write(
        lab,
        {"application": "orders", "serviceAccounts": accounts, "roles": [{"role": "Reader", "scope": GROUP}]},
        {"managedIdentity": "catalogue", "resourceGroup": "shop", "serviceAccounts": [{"name": "c", "namespace": "d"}]},
        {"managedIdentity": "billing", "resourceGroup": "shop", "serviceAccounts": [{"name": "b", "namespace": "d"}]},
    )
    assert 0 == lab.run("apply", "-f", path, "--dry-run", "-ojson")
    assert 0 == lab.count_writes()
    assert {"would create"} == {one for document in result()["identities"] for _, one in results(document)}
    assert 0 == lab.run("apply", "-f", path, "--wait", "-ojson")
    applied = result()
    assert {"created"} == {one for document in applied["identities"] for _, one in results(document)}
    assert 5 == sum(len(document["tokens"]) for document in applied["identities"])
    assert (3, 2) == (len(lab.application_credentials("orders")), len(lab.identities()))
    before = lab.count_writes()
    assert 0 == lab.run("apply", "-f", path, "-ojson")
    assert {"unchanged"} == {one for document in result()["identities"] for _, one in results(document)}
    assert before == lab.count_writes()


def test_apply_waits_for_tokens_of_each_accounts_audience(lab: Lab, result: Read) -> None:
    """Of one application that two entries of the file name, each with an audience of its own."""
    path = write(
        lab,
        {"application": "orders", "serviceAccounts": [{"name": "a"}]},
        {"application": "orders", "serviceAccounts": [{"name": "b"}], "audience": "api://AzureADTokenExchangeUSGov"},
    )
    assert 0 == lab.run("apply", "-f", path, "--wait", "--wait-timeout=5s", "-ojson")
    assert 2 == sum(len(document["tokens"]) for document in result()["identities"])


def test_apply_goes_on_with_the_others(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """One identity that fails does not keep the others; the exit code tells."""
    annotations = {f"{P}client-id": "theirs"}
    lab.cluster.put({"metadata": {"name": "a", "namespace": "default", "annotations": annotations}}, manager="argocd")
    path = write(
        lab,
        {"application": "a", "serviceAccounts": [{"name": "a"}]},
        {"application": "b", "serviceAccounts": [{"name": "b"}]},
    )
    assert 1 == lab.run("apply", "-f", path)
    assert "managed by argocd" in capsys.readouterr().err
    assert ("default", "b") in lab.cluster.objects
    assert 0 == lab.run("apply", "-f", path, "--overwrite")


def test_files_that_cannot_be_applied(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """Missing, no YAML, or wrong in a field."""
    path = lab.folder / "bad.yaml"
    assert 1 == lab.run("apply", "-f", str(path))
    path.write_text("a: [}")
    assert 1 == lab.run("apply", "-f", str(path))
    path.write_text("identities: [{}]")
    assert 1 == lab.run("apply", "-f", str(path))
    told = capsys.readouterr().err
    assert all(words in told for words in ("cannot be read", "is no YAML", "identities[0]: name it by"))
