"""azwi serviceaccount create, delete and show: what they print, ask, refuse and leave alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from identity_lab import ASSIGNMENT, GROUP, IDENTITY, NAME, NO_ROLE, SECRET, TENANT, Lab, P, results

from azwi.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable

    Read = Callable[[], dict[str, Any]]


@pytest.mark.parametrize("identity", [(NAME,), IDENTITY], ids=["application", "managed-identity"])
def test_a_dry_run_changes_nothing(identity: tuple[str, ...], lab: Lab, result: Read) -> None:
    """It says what would be done, and not one write leaves."""
    role = ("--azure-role=Reader", f"--azure-scope={GROUP}")
    assert 0 == lab.run("sa", "create", *lab.account(), *identity, *role, "--dry-run", "-ojson")
    document = result()
    assert document["dryRun"]
    assert {"would create"} == {one for _, one in results(document)}
    assert 0 == lab.count_writes()
    lab.run("sa", "create", *lab.account(), *identity, *role)
    result_before = lab.count_writes()
    assert 0 == lab.run("sa", "delete", *lab.account(), *identity, ASSIGNMENT, "--dry-run")
    assert 0 == lab.run(
        "credential", "sync", *identity, f"--from-issuer={lab.emulator.issuer}", "--to-issuer=https://b", "--dry-run"
    )
    assert result_before == lab.count_writes()


def test_yaml_is_the_same_document(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """As JSON, but for people."""
    assert 0 == lab.run("sa", "create", "phase", "app", NAME, "-oyaml")
    document = yaml.safe_load(capsys.readouterr().out)
    assert ("serviceaccount create", "orders") == (document["command"], document["identity"]["name"])


def test_people_are_told_who_it_is(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """One line on stdout; all else is progress."""
    assert 0 == lab.run("sa", "create", *lab.account(), NAME, NO_ROLE)
    client_id = lab.cluster.annotations("shop", "orders")["client-id"]
    assert f"orders: client id {client_id}, tenant {TENANT}\n" == capsys.readouterr().out


def test_an_annotation_of_somebody_else_is_not_taken(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """The owner is named, everything stays as it is; --overwrite takes it."""
    theirs = {f"{P}client-id": "theirs", "keep": "me"}
    metadata = {"name": "orders", "namespace": "shop", "annotations": theirs}
    lab.cluster.put({"metadata": metadata}, manager="argocd-controller")
    arguments = ("sa", "create", *lab.account(), NAME, NO_ROLE)
    assert 1 == lab.run(*arguments)
    told = capsys.readouterr().err
    assert f"{P}client-id is 'theirs', managed by argocd-controller" in told
    assert "--overwrite" in told
    assert "theirs" == lab.cluster.annotations("shop", "orders")["client-id"]
    assert 0 == lab.run(*arguments, "--overwrite")
    assert "theirs" != lab.cluster.annotations("shop", "orders")["client-id"]
    assert "me" == lab.cluster.annotations("shop", "orders")["keep"]


def test_the_expiration_comes_and_goes(lab: Lab) -> None:
    """Whole seconds where it is not an hour; without it the annotation of an earlier run goes."""
    arguments = ("sa", "create", *lab.account(), NAME, NO_ROLE)
    assert 0 == lab.run(*arguments, "--service-account-token-expiration=1h30m")
    assert "5400" == lab.cluster.annotations("shop", "orders")["service-account-token-expiration"]
    assert 0 == lab.run(*arguments)
    assert "service-account-token-expiration" not in lab.cluster.annotations("shop", "orders")


def test_an_audience_of_ones_own(lab: Lab) -> None:
    """A national cloud's; changed where the credential stands when it changes."""
    arguments = ("sa", "create", *lab.account(), NAME, NO_ROLE)
    assert 0 == lab.run(*arguments)
    assert 0 == lab.run(*arguments, "--audience=api://AzureADTokenExchangeUSGov", "--wait")
    (credential,) = lab.application_credentials("orders")
    assert ["api://AzureADTokenExchangeUSGov"] == credential["audiences"]


def test_a_service_account_can_stay(lab: Lab) -> None:
    """Without our annotations, with all else."""
    metadata = {"name": "orders", "namespace": "shop", "annotations": {"keep": "me"}}
    lab.cluster.put({"metadata": metadata})
    assert 0 == lab.run("sa", "create", *lab.account(), *IDENTITY)
    assert 0 == lab.run("sa", "delete", *lab.account(), *IDENTITY, "--keep-service-account")
    assert {"keep": "me"} == lab.cluster.annotations("shop", "orders")
    assert [] == lab.identities()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_service_account_that_is_gone_is_not_made_again(
    replaced: bool,  # noqa: FBT001
    lab: Lab,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between the plan and its turn: it is told to be absent, and another of its name is left alone."""
    assert 0 == lab.run("sa", "create", *lab.account(), *IDENTITY)
    other = {"metadata": {"name": "orders", "namespace": "shop", "annotations": {f"{P}client-id": "theirs"}}}

    def meanwhile(*_: object, **__: object) -> None:
        lab.cluster.objects.clear()
        if replaced:
            lab.cluster.put(other)

    monkeypatch.setattr("azwi.cli.creation.ask", meanwhile)
    assert int(replaced) == lab.run("sa", "delete", *lab.account(), *IDENTITY, "--keep-service-account")
    words = "uid mismatch" if replaced else "Warning: service-account: service account shop/orders absent"
    assert words in capsys.readouterr().err
    assert ({("shop", "orders"): other} if replaced else {}) == lab.cluster.objects


def test_a_managed_identity_of_others_stays(lab: Lab) -> None:
    """It was there before azwi: its credential goes, it does not."""
    path = f"{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/orders"
    lab.arm(path, method="PUT", location="westeurope")
    by_id = f"--identity-resource-id={path}"
    assert 0 == lab.run("sa", "create", *lab.account(), by_id)
    assert 0 == lab.run("sa", "delete", *lab.account(), by_id)
    assert (["orders"], []) == (lab.identities(), lab.identity_credentials("orders"))


def test_an_identity_that_stays_keeps_its_roles(lab: Lab, result: Read) -> None:
    """Its own credential stays where that phase is skipped, so the identity stays, and what it may do."""
    role = ("--azure-role=Reader", f"--azure-scope={GROUP}")
    assert 0 == lab.run("sa", "create", *lab.account(), *IDENTITY, *role, "-ojson")
    assert 4 == len(results(result()))
    assert 0 == lab.run("sa", "delete", *lab.account(), *IDENTITY, "--skip-phases=federated-identity", "-ojson")
    assert [("service account", "deleted"), ("managed identity", "kept")] == results(result())
    assert (["orders"], 1, 1) == (lab.identities(), len(lab.identity_credentials("orders")), len(lab.assignments()))


def test_an_identity_that_somebody_begins_to_use_keeps_its_roles(
    lab: Lab, result: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the plan and the first role: its other credentials are asked for before a role goes."""
    role = ("--azure-role=Reader", f"--azure-scope={GROUP}")
    assert 0 == lab.run("sa", "create", *lab.account(), *IDENTITY, *role, "-ojson")
    assert 4 == len(results(result()))
    path = f"{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/orders/federatedIdentityCredentials"
    trust = {"issuer": "https://ci.example", "subject": "ci", "audiences": ["api://AzureADTokenExchange"]}

    def meanwhile(*_: object, **__: object) -> None:
        lab.arm(f"{path}/another", method="PUT", properties=trust)

    monkeypatch.setattr("azwi.cli.creation.ask", meanwhile)
    assert 0 == lab.run("sa", "delete", *lab.account(), *IDENTITY, "-ojson")
    assert [("role assignment", "kept"), ("managed identity", "kept")] == results(result())[2:]
    assert (["orders"], 1) == (lab.identities(), len(lab.assignments()))


def test_a_role_that_is_named_goes_first(lab: Lab, result: Read) -> None:
    """Once, also where azwi gave it and it would go with the identity."""
    role = ("--azure-role=Reader", f"--azure-scope={GROUP}")
    assert 0 == lab.run("sa", "create", *lab.account(), *IDENTITY, *role, "-ojson")
    assert 4 == len(results(result()))
    named = f"--role-assignment-id={lab.assignments()[0]['id']}"
    assert 0 == lab.run("sa", "delete", *lab.account(), *IDENTITY, named, "-ojson")
    assert [
        ("role assignment", "deleted"),
        ("federated credential", "deleted"),
        ("service account", "deleted"),
        ("managed identity", "deleted"),
    ] == results(result())


def test_the_issuer_is_read_from_the_cluster(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """Where none is given: for create, delete, a credential and a file."""
    names = lab.account()[:2]
    assert 0 == lab.run("sa", "create", *names, NAME, NO_ROLE, "--wait")
    assert f"The issuer is the cluster's: {lab.emulator.issuer}" in capsys.readouterr().err
    assert [lab.emulator.issuer] == [one["issuer"] for one in lab.application_credentials("orders")]
    assert 0 == lab.run("credential", "add", NAME, "--service-account-name=other")
    path = lab.folder / "file.yaml"
    path.write_text("identities: [{application: orders, serviceAccounts: [{name: third}]}]")
    assert 0 == lab.run("apply", "-f", str(path))
    assert {lab.emulator.issuer} == {one["issuer"] for one in lab.application_credentials("orders")}
    assert 0 == lab.run("sa", "delete", "phase", "fi", *names, NAME)
    assert 2 == len(lab.application_credentials("orders"))
    lab.cluster.issuer = ""
    assert 1 == lab.run("sa", "create", *names, NAME, NO_ROLE)
    assert "--service-account-issuer-url is required" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [("/", "they differ in the slash at the end"), ("/other", "they are different"), ("", "")],
)
def test_an_issuer_that_is_not_the_clusters_is_warned_about(
    change: str, words: str, lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    """Entra compares byte by byte; both are told."""
    account = lab.account(issuer=lab.emulator.issuer + change)
    assert 0 == lab.run("sa", "create", *account, NAME, NO_ROLE)
    told = capsys.readouterr().err
    assert bool(words) == ("Warning: --service-account-issuer-url is" in told)
    assert words in told


def test_phases_one_by_one(lab: Lab) -> None:
    """Each knows its own options, has an alias, and together they do what create does."""
    assert 0 == lab.run("sa", "create", "phase", "mi", *IDENTITY, "--location=westeurope")
    assert 0 == lab.run("sa", "create", "phase", "sa", *lab.account(), *IDENTITY)
    assert 0 == lab.run("sa", "create", "phase", "fi", *lab.account(), *IDENTITY)
    assert 0 == lab.run("sa", "create", "phase", "ra", *IDENTITY, "--azure-role=Reader", f"--azure-scope={GROUP}")
    assert 1 == len(lab.identity_credentials("orders")) == len(lab.assignments())
    assert 0 == lab.run("sa", "delete", "phase", "ra", f"--role-assignment-id={lab.assignments()[0]['id']}")
    assert 0 == lab.run("sa", "delete", "phase", "fi", *lab.account(), *IDENTITY)
    assert 0 == lab.run("sa", "delete", "phase", "sa", *lab.account()[:2])
    assert 0 == lab.run("sa", "delete", "phase", "mi", *IDENTITY)
    assert ([], [], {}) == (lab.identities(), lab.assignments(), lab.cluster.objects)


def test_a_principal_of_another_name_is_found_again(lab: Lab, result: Read) -> None:
    """By its application: Graph gives it the application's name, and the second run changes nothing."""
    role = ("--azure-role=Reader", f"--azure-scope={GROUP}")
    arguments = ("sa", "create", *lab.account(), NAME, "--service-principal-name=other", *role, "-ojson")
    assert 0 == lab.run(*arguments)
    assert {"created"} == {one for _, one in results(result())}
    assert 0 == lab.run(*arguments)
    assert {"unchanged"} == {one for _, one in results(result())}


def test_phases_by_ids(lab: Lab) -> None:
    """Client id, object id and principal id stand for names, and nothing is looked up for them."""
    made = lab.create_application("orders")
    lab.emulator.fail(service="graph", status=403, error="Authorization_RequestDenied")
    sa = ("sa", "create", "phase", "sa", *lab.account())
    assert 0 == lab.run(*sa, f"--aad-application-client-id={made['appId']}")
    role = ("--azure-role=Reader", f"--azure-scope={GROUP}")
    assert 0 == lab.run("sa", "create", "phase", "ra", f"--service-principal-object-id={made['principal']}", *role)
    assert made["appId"] == lab.cluster.annotations("shop", "orders")["client-id"]
    assert made["principal"] == lab.assignments()[0]["properties"]["principalId"]
    assert 1 == lab.run("sa", "create", "phase", "fi", *lab.account(), f"--aad-application-object-id={made['id']}")
    assert 0 == lab.run("sa", "create", "phase", "fi", *lab.account(), f"--aad-application-object-id={made['id']}")
    assert 0 == lab.run("sa", "create", "phase", "ra", "--service-principal-name=orders", *role)


def test_a_phase_that_lacks_its_identity(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """And a role nobody has."""
    assert 1 == lab.run("sa", "create", "phase", "mi")
    assert "one of --identity-name and --identity-resource-id is required" in capsys.readouterr().err
    lab.create_application("orders")
    scope = f"--azure-scope={GROUP}"
    assert 1 == lab.run("sa", "create", "phase", "ra", NAME, "--azure-role=Nobody", scope)
    assert "there is no role 'Nobody' at" in capsys.readouterr().err
    bare = lab.graph("/applications", "POST", displayName="bare")
    assert 1 == lab.run("sa", "create", "phase", "ra", "--aad-application-name=bare", "--azure-role=Reader", scope)
    assert "has no service principal" in capsys.readouterr().err
    assert bare


def test_waiting_for_what_will_not_come(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """Another issuer than the cluster's: Entra's own words, and what to check."""
    other = lab.account(issuer="https://other.example/")
    assert 1 == lab.run("sa", "create", *other, NAME, NO_ROLE, "--wait", "--wait-timeout=2s")
    told = capsys.readouterr().err
    assert "service account shop/orders got no access token" in told
    assert "AADSTS700211" in told


def test_no_kubeconfig(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """Told by the flag; phases that need no cluster do without."""
    flags = [one for one in lab.flags() if not one.startswith("--kubeconfig")]
    assert 0 == main(["sa", "create", "phase", "app", NAME, *flags])
    assert 1 == main(["sa", "create", *lab.account(), NAME, NO_ROLE, *flags])
    assert "name a kubeconfig with --kubeconfig" in capsys.readouterr().err


def test_no_secret_is_printed(lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with --debug, not in an error; one on the command line is warned about, one in the environment is not."""
    flags = [one for one in lab.flags() if not one.startswith("--client-secret-file")]
    create = ["sa", "create", *lab.account(), NAME, NO_ROLE, "--debug", *flags]
    assert 0 == main([*create, "--wait", f"--client-secret={SECRET}"])
    monkeypatch.setenv("AZURE_CLIENT_SECRET", SECRET)
    warned = capsys.readouterr()
    assert "Warning: everybody on this machine can see --client-secret" in warned.err
    assert 0 == main([*create, "-ojson"])
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "wrong-" + SECRET)
    assert 1 == main(create)
    printed = capsys.readouterr()
    assert "everybody" not in printed.err
    assert "AADSTS7000215" in printed.err
    for text in (warned.out, warned.err, printed.out, printed.err):
        assert SECRET not in text
        assert "eyJ" not in text


# --- show -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("identity", [(NAME,), IDENTITY], ids=["application", "managed-identity"])
def test_show(identity: tuple[str, ...], lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """Annotations with their managers, the identity by its client id, and the credential that trusts it."""
    assert 0 == lab.run("sa", "create", *lab.account(), *identity, NO_ROLE)
    capsys.readouterr()
    assert 0 == lab.run("sa", "show", *lab.account(), "-ojson")
    document = json.loads(capsys.readouterr().out)
    assert ("orders", TENANT) == (document["identity"]["name"], document["identity"]["tenantId"])
    assert {"used": 1, "limit": 20} == document["quota"]
    assert ["azwi"] == document["serviceAccount"]["managers"][f"{P}client-id"]
    assert lab.emulator.issuer == document["credentials"][0]["issuer"]
    assert 0 == lab.run("sa", "show", *lab.account()[:2])
    shown = capsys.readouterr().out
    assert "uses 1 of 20 federated credentials" in shown
    assert "(managed by azwi)" in shown


def test_show_what_is_missing(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """No account, no client id, a client id of nobody, no credential: each is told, and ends with 1."""
    assert 1 == lab.run("sa", "show")
    assert 1 == lab.run("sa", "show", *lab.account())
    assert "service account shop/orders does not exist" in capsys.readouterr().err
    lab.cluster.put({"metadata": {"name": "orders", "namespace": "shop"}})
    assert 1 == lab.run("sa", "show", *lab.account())
    assert "it has no client-id" in capsys.readouterr().out
    annotations = {f"{P}client-id": "66666666-6666-6666-6666-666666666666"}
    lab.cluster.put({"metadata": {"name": "orders", "namespace": "shop", "annotations": annotations}})
    assert 1 == lab.run("sa", "show", *lab.account())
    assert "belongs to nobody in this tenant" in capsys.readouterr().out
    annotations[f"{P}client-id"] = lab.create_application("orders")["appId"]
    assert 1 == lab.run("sa", "show", *lab.account())
    assert "No federated credential trusts it" in capsys.readouterr().out
    assert 1 == lab.run("sa", "show", *lab.account(), "-ojson")
