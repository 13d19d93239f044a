"""What the reference gets wrong (docs/reference-behaviour.md, section 10), and ours right; numbers are that list's.

21 and 22 stand in tests/entra/test_rest.py, 17 and 18 also in test_plan.py. 23 and 24 are of other commands.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from identity_lab import GROUP, NAME, NO_ROLE, TENANT, results

if TYPE_CHECKING:
    from collections.abc import Callable

    from identity_lab import Lab

ROLE = ("--azure-role=Reader", f"--azure-scope={GROUP}")


def test_15_a_role_assignment_that_fails_fails(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 1 with code and what to do; what was done before is reported, the same command goes on from there."""
    lab.emulator.fail(service="arm", status=403, error="AuthorizationFailed", method="PUT")
    arguments = ("sa", "create", *lab.account(), NAME, *ROLE, "-ojson")
    assert 1 == lab.run(*arguments)
    printed = capsys.readouterr()
    assert "failed to run phase role-assignment" in printed.err
    assert "Role Based Access Control Administrator" in printed.err
    steps = json.loads(printed.out)["steps"]
    assert [*["created"] * 4, "would create"] == [step["result"] for step in steps]


def test_16_no_service_account_without_a_client_id(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing application is an error, and the cluster is not touched."""
    arguments = ("sa", "create", "phase", "service-account", *lab.account(), "--aad-application-name=missing")
    assert 1 == lab.run(*arguments)
    assert "application 'missing' does not exist" in capsys.readouterr().err
    assert {} == lab.cluster.objects


def test_17_an_application_that_is_not_there_is_not_deleted(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """A warning, exit 0, and no DELETE leaves at all."""
    assert 0 == lab.run("sa", "delete", "phase", "app", "--aad-application-name=missing")
    assert "Warning: aad-application: application missing absent" in capsys.readouterr().err
    assert [] == lab.write_requests()


def test_18_a_credential_of_another_issuer_stays(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """It is no error: a warning, and the rest goes on."""
    assert 0 == lab.run("sa", "create", *lab.account(issuer="https://other.example/"), NAME, NO_ROLE)
    assert 0 == lab.run("sa", "delete", *lab.account(), NAME, "--skip-phases=role-assignment,aad-application")
    assert "Warning: federated-identity" in capsys.readouterr().err
    assert ["https://other.example/"] == [one["issuer"] for one in lab.application_credentials("orders")]
    assert {} == lab.cluster.objects


def test_19_an_existing_service_account_keeps_what_it_has(lab: Lab) -> None:
    """Labels, annotations, pull secrets: only our annotations are written."""
    lab.cluster.put(
        {
            "metadata": {
                "name": "orders",
                "namespace": "shop",
                "labels": {"team": "x"},
                "annotations": {"keep": "me"},
            },
            "imagePullSecrets": [{"name": "pull"}],
        },
        manager="helm",
    )
    assert 0 == lab.run("sa", "create", *lab.account(), NAME, NO_ROLE)
    found = lab.cluster.objects["shop", "orders"]
    assert ({"team": "x"}, [{"name": "pull"}]) == (found["metadata"]["labels"], found["imagePullSecrets"])
    assert {"keep": "me", "tenant-id": TENANT}.items() <= lab.cluster.annotations("shop", "orders").items()


@pytest.mark.parametrize("identity", [(NAME,), ("--identity-name=orders", "--resource-group=shop")], ids=["app", "mi"])
def test_20_what_existed_is_not_called_created(
    identity: tuple[str, ...], lab: Lab, result: Callable[[], dict[str, Any]]
) -> None:
    """The second run changes nothing and says so; no write leaves."""
    arguments = ("sa", "create", *lab.account(), *identity, *ROLE, "-ojson")
    assert 0 == lab.run(*arguments)
    assert {"created"} == {one for _, one in results(result())}
    before = lab.count_writes()
    assert 0 == lab.run(*arguments)
    assert {"unchanged"} == {one for _, one in results(result())}
    assert before == lab.count_writes()


def test_20_what_somebody_else_created_meanwhile_is_not_called_created(
    lab: Lab, result: Callable[[], dict[str, Any]]
) -> None:
    """A role that others gave, a credential under another name."""
    lab.create_application("orders")
    lab.create_credential("orders", "by-hand", lab.emulator.issuer, "system:serviceaccount:shop:orders")
    lab.assign("orders", "Reader", GROUP)
    assert 0 == lab.run("sa", "create", *lab.account(), NAME, *ROLE, "-ojson")
    assert [
        ("application", "unchanged"),
        ("service principal", "unchanged"),
        ("service account", "created"),
        ("federated credential", "unchanged"),
        ("role assignment", "unchanged"),
    ] == results(result())
    assert 1 == len(lab.application_credentials("orders")) == len(lab.assignments())


def test_21_no_public_host_is_asked_for_a_private_cloud(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request goes through a proxy that would see it; it sees the emulator's alone."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nobody listens: another host would fail
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
    assert 0 == lab.run("sa", "create", *lab.account(), NAME, *ROLE, "--wait")


def test_22_a_quote_in_a_name(lab: Lab) -> None:
    """Is found again, not made twice."""
    name = "--aad-application-name=it's o'clock"
    for _ in range(2):
        assert 0 == lab.run("sa", "create", "phase", "app", name)
    assert ["it's o'clock"] == lab.applications()


# --- What Azure needs retried [C2] ----------------------------------------------------------------------


def test_new_objects_are_waited_for(lab: Lab, result: Callable[[], dict[str, Any]]) -> None:
    """Application, principal, identity and the credential that the token endpoint does not know yet."""
    lab.emulator.delay_replication(0.6)
    lab.emulator.delay_propagation(0.5)
    assert 0 == lab.run("sa", "create", *lab.account(), NAME, *ROLE, "--wait", "-ojson")
    assert "granted" == result()["tokens"][0]["result"]
    identity = ("--identity-name=orders", "--resource-group=shop")
    assert 0 == lab.run("sa", "create", *lab.account("other"), *identity, *ROLE, "--wait", "-ojson")
    assert "granted" == result()["tokens"][0]["result"]
    outcomes = {one["outcome"] for one in lab.emulator.journal()}
    assert {"Request_BadRequest", "ParentResourceNotFound"} <= outcomes


def test_an_answer_that_is_lost_makes_no_second_application(lab: Lab) -> None:
    """The POST was carried out, its answer was a gateway's: what it made is found."""
    for path in ("applications", "servicePrincipals", "federatedIdentityCredentials"):
        lab.emulator.fail(service="graph", status=502, method="POST", match=path, done=True)
    lab.emulator.fail(service="arm", status=502, method="PUT", done=True)
    assert 0 == lab.run("sa", "create", *lab.account(), NAME, *ROLE)
    assert ["orders"] == lab.applications()
    assert 1 == len(lab.application_credentials("orders")) == len(lab.assignments())


def test_throttling_and_small_pages(lab: Lab) -> None:
    """Retry-After is kept, every page is read."""
    for number in range(3):
        assert 0 == lab.run("sa", "create", *lab.account(f"n{number}"), NAME, NO_ROLE)
    lab.emulator.page(1)
    lab.emulator.throttle(1, 1, service="graph")
    lab.emulator.throttle(1, 1, service="arm")
    assert 0 == lab.run("sa", "create", *lab.account("n0"), NAME, *ROLE)
    assert 3 == len(lab.cluster.objects)
    lab.emulator.page(0)
    assert 3 == len(lab.application_credentials("orders"))


def test_two_applications_of_one_name_are_not_guessed_between(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """Both ids are told; one of them then is enough."""
    made = [lab.create_application("orders") for _ in range(2)]
    assert 1 == lab.run("sa", "create", *lab.account(), NAME, NO_ROLE)
    told = capsys.readouterr().err
    assert all(one["id"] in told for one in made)
    one = f"--aad-application-object-id={made[0]['id']}"
    assert 0 == lab.run("sa", "create", *lab.account(), one, NO_ROLE)
    assert made[0]["appId"] == lab.cluster.annotations("shop", "orders")["client-id"]
