"""Commands that are mistaken: what they print, and with which exit code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from cluster_standin import running_cluster
from identity_lab import IDENTITY, NAME, NO_ROLE, OPERATOR, STATE, SUBSCRIPTION, TENANT, Lab, results

from azwi.cli.main import main
from azwi.emulator.client import emulate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Read = Callable[[], dict[str, Any]]


@pytest.mark.parametrize(
    "arguments",
    [
        ["serviceaccount"],
        ["sa"],
        ["sa", "bogus"],
        ["sa", "create", "phase"],
        ["sa", "create", "phase", "bogus"],
        ["sa", "delete", "phase"],
        ["credential"],
        ["credential", "bogus"],
    ],
)
def test_a_bare_group_shows_its_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr, and ends with 0, as the reference's; nothing is asked for."""
    assert 0 == main(arguments)
    printed = capsys.readouterr()
    assert ("", True) == (printed.out, printed.err.startswith("Usage: azwi "))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sa", "create", "--bogus"], "--bogus"),
        (["sa", "create", "--service-account-token-expiration=1"], "no duration"),
        (["sa", "create", "-o", "xml"], "xml"),
        (["sa", "create", "phase", "role-assignment", "--skip-phases=x"], "--skip-phases"),
        (["apply"], "--filename"),
        (["credential", "sync"], "--from-issuer"),
        (["sa", "create", "--service-account-name"], "--service-account-name"),
        (["--debug", "sa", "create", "--debug=true"], "--debug"),
        (["apply", "-f"], "-f"),
        (["version", "--debug=true"], "--debug"),
        (["completion", "tcsh"], "tcsh"),
    ],
)
def test_mistakes_end_with_1(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As in the reference, also those on the command line."""
    assert 1 == main(arguments)
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--auth-method="], "--auth-method is a required parameter"),
        (["--auth-method=magic"], "--auth-method 'magic' is not known; methods are cli, client_secret"),
        (["--auth-method=client_secret", "--client-id=x"], "parsing --client-id"),
        (["--auth-method=client_secret", f"--client-id={OPERATOR}"], "--client-secret must be specified"),
        (["--auth-method=client_certificate", f"--client-id={OPERATOR}"], "--certificate-path and --private-key-path"),
        (["--auth-method=workload_identity", f"--client-id={OPERATOR}"], "AZURE_FEDERATED_TOKEN_FILE is not set"),
        (["--subscription-id=x"], "parsing --subscription-id"),
        ([], "--subscription-id is required (and must be a valid UUID)"),
        (["-s", SUBSCRIPTION, "--azure-env=Foo"], 'no cloud environment matching the name "FOO"'),
        (["-s", SUBSCRIPTION, "--authority-host=https://login.example"], "also needs --graph-endpoint and"),
        (
            ["-s", SUBSCRIPTION, "--authority-host=http://x", "--graph-endpoint=https://g"],
            "--authority-host: 'http://x'",
        ),
        (["-s", SUBSCRIPTION, "--client-secret-file=/nonexistent"], "--client-secret-file /nonexistent cannot be read"),
        (["-s", SUBSCRIPTION, "--ca-file=/nonexistent", NO_ROLE], "--ca-file /nonexistent holds no certificates"),
        (["-s", SUBSCRIPTION, "--aad-application-client-id=x"], "parsing --aad-application-client-id: 'x' is no UUID"),
        (["-s", SUBSCRIPTION, "--aad-application-object-id=../x"], "parsing --aad-application-object-id: '../x' is no"),
        (["-s", SUBSCRIPTION, NAME, "--identity-name=x"], "either an application or a managed identity"),
        (["-s", SUBSCRIPTION, "--identity-name=x"], "--resource-group is required with --identity-name"),
        (["-s", SUBSCRIPTION, "--identity-name=x", "--identity-resource-id=/y"], "exclude each other"),
        (["-s", SUBSCRIPTION, "--identity-resource-id=/y"], "is no user-assigned managed identity; it must look like"),
    ],
)
def test_options_that_cannot_work(flags: list[str], words: str, lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is told by its name, with what is allowed, before anything is asked."""
    arguments = ["sa", "create", *lab.account(), *flags]
    arguments = arguments if "--azure-scope" in flags else [*arguments, "--azure-scope=/s", "--azure-role=r"]
    assert 1 == main(arguments)
    assert words in capsys.readouterr().err
    assert [] == [one for one in lab.emulator.journal() if one["service"] != "emulator"]


def test_sign_in_options_may_stand_anywhere(lab: Lab, result: Read) -> None:
    """Before and after the subcommand, as the reference's persistent flags; the last one counts."""
    first, *others = lab.flags()
    arguments = ["sa", "--azure-env=Foo", first, "create", "--azure-env=AzureCloud", "phase", *others]
    assert 0 == main([*arguments, "app", NAME, "-ojson"])
    assert ["created", "created"] == [one for _, one in results(result())]


def test_debug_may_stand_before_the_command(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """Each request is logged, without its content."""
    assert 0 == main(["--debug", "sa", "create", "phase", "app", NAME, *lab.flags()])
    assert "POST /graph/v1.0/applications" in capsys.readouterr().err


def test_the_only_subscription_is_found(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a pipeline that signs in to one and names none."""
    monkeypatch.setenv("AZURE_TENANT_ID", TENANT)
    flags = [one for one in lab.flags() if not one.startswith("--subscription-id")]
    assert 0 == main(["sa", "create", *lab.account(), *IDENTITY, *flags])
    assert 0 == main(["credential", "list", *IDENTITY, *flags])
    assert 0 == main(["sa", "delete", *lab.account(), *IDENTITY, *flags])
    assert [] == lab.identities()


def test_several_subscriptions_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """None is guessed."""
    monkeypatch.setenv("HOME", str(tmp_path))
    state: dict[str, Any] = json.loads(json.dumps(STATE))
    state["tenants"][0]["subscriptions"].append({"id": "12121212-1212-1212-1212-121212121212"})
    (tmp_path / "state.yaml").write_text(yaml.safe_dump(state))
    with (
        emulate(tmp_path / "state.yaml", tmp_path / "run") as emulator,
        running_cluster(emulator.service_account_token, emulator.issuer) as cluster,
    ):
        lab = Lab(emulator, cluster, tmp_path)
        flags = [one for one in lab.flags() if not one.startswith("--subscription-id")]
        assert 1 == main(["sa", "create", *lab.account(), *IDENTITY, *flags, f"--tenant-id={TENANT}"])
    told = capsys.readouterr().err
    assert "sees 2 subscriptions" in told
    assert SUBSCRIPTION in told
    assert "12121212-1212-1212-1212-121212121212" in told


def test_the_azure_clis_subscription_is_used(lab: Lab) -> None:
    """Where no flag names one: its selected one, in its selected cloud."""
    folder = lab.folder / ".azure"
    folder.mkdir()
    (folder / "config").write_text("[cloud]\nname = AzureStack\n")
    (folder / "clouds.config").write_text(
        f"[AzureCloud]\nsubscription = x\n[AzureStack]\nsubscription = {SUBSCRIPTION}\n"
    )
    flags = [one for one in lab.flags() if not one.startswith("--subscription-id")]
    assert 0 == main(["sa", "create", "phase", "app", NAME, *flags])
