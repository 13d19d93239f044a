"""What cannot be right is told, and never taken for done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from identity_lab import GROUP, NAME, NO_ROLE, SUBSCRIPTION

if TYPE_CHECKING:
    from identity_lab import Lab


def test_an_issuer_that_graph_refuses_is_told(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """Also on an application without credentials, where nothing else can be in the way: never "unchanged"."""
    assert 1 == lab.run("sa", "create", *lab.account(issuer="not a url"), NAME, NO_ROLE)
    assert "InvalidFederatedIdentityCredentialValue" in capsys.readouterr().err
    assert [] == lab.application_credentials("orders")


@pytest.mark.parametrize("phase", [(), ("phase", "ra")])
def test_only_role_assignments_are_deleted_as_such(
    phase: tuple[str, ...], lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another resource's id is refused with the form that is allowed, and no DELETE leaves."""
    arguments = ("sa", "delete", *phase, f"--role-assignment-id={GROUP}")
    assert 1 == lab.run(*arguments, *(() if phase else (*lab.account(), NAME)))
    assert (
        "is no role assignment; it must look like /SCOPE/providers/Microsoft.Authorization/" in capsys.readouterr().err
    )
    assert [] == lab.write_requests()


def test_a_file_writes_to_no_other_resource(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """A path that is no managed identity is refused by its field, and nothing is put there."""
    path = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/made"
    file = lab.folder / "identities.yaml"
    file.write_text(f"identities: [{{managedIdentity: {path}, location: westeurope}}]\n")
    assert 1 == lab.run("apply", f"-f{file}", "--yes")
    assert f"identities[0].managedIdentity: '{path}' is no user-assigned managed identity" in capsys.readouterr().err
    assert [] == lab.write_requests()


@pytest.mark.parametrize(
    "names", [("../secrets/tls", "shop"), ("tls", "shop/secrets"), ("..", "shop"), ("a?b", "shop")]
)
def test_a_service_account_is_the_only_object_that_is_asked_for(
    names: tuple[str, str], lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name that holds a path is one segment of it, or is not asked for."""
    flags = (f"--service-account-name={names[0]}", f"--service-account-namespace={names[1]}")
    assert 1 == lab.run("sa", "show", *flags)
    assert names[0] in capsys.readouterr().err
    assert {"serviceaccounts"} >= {path.split("/")[5] for _, path in lab.cluster.requests}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("issuer: !!bool x\n", "is no YAML or JSON: a value does not fit its tag"),
        ("identities: []\n---\nidentities: []\n", "holds 2 documents; it must be one"),
        ("", "the document: expected `object`, got `null`"),
        ("a: [", "is no YAML or JSON: "),
    ],
)
def test_a_file_that_cannot_be_read_is_told(
    content: str, words: str, lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a sentence that names the file."""
    file = lab.folder / "identities.yaml"
    file.write_text(content)
    assert 1 == lab.run("apply", f"-f{file}", "--yes")
    told = capsys.readouterr().err
    assert told.startswith(f"Error: {file}")
    assert words in told


def test_a_role_that_does_not_exist_is_told_at_once(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """It is not waited for as what was created a moment ago."""
    flags = ("--azure-role=12345678-1234-1234-1234-123456789012", f"--azure-scope={GROUP}")
    assert 1 == lab.run("sa", "create", *lab.account(), NAME, *flags)
    assert "RoleDefinitionDoesNotExist" in capsys.readouterr().err
    assert 1 == len([one for one in lab.write_requests() if "roleAssignments" in one[1]])
