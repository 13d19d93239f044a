"""Service accounts in manifests: which are read, what is wrong with others, and reading them again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from azwi.errors import ManifestError
from azwi.webhook.accounts import ManifestAccounts

if TYPE_CHECKING:
    from pathlib import Path

CLIENT = "22222222-2222-2222-2222-222222222222"


def account(name: str, client_id: str = CLIENT, namespace: str = "shop") -> str:
    """A ServiceAccount in YAML."""
    return (
        f"apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: {name}\n  namespace: {namespace}\n"
        f"  annotations:\n    azure.workload.identity/client-id: {client_id}\n"
    )


def test_one_file_with_many_documents(tmp_path: Path) -> None:
    """Accounts are found by namespace and name; other kinds and empty documents are left out."""
    file = tmp_path / "all.yaml"
    file.write_text(
        "---\n" + account("a") + "---\n---\nkind: Pod\nmetadata: {}\n---\n" + account("a", namespace="other")
    )

    accounts = ManifestAccounts(file)

    assert len(accounts) == 2
    found = accounts.find("shop", "a")
    assert found is not None
    assert found.client_id == CLIENT
    assert accounts.find("shop", "b") is None


def test_lists_json_and_folders(tmp_path: Path) -> None:
    """A List, a typed list, JSON, and a folder of such files; the namespace is `default` where none is said."""
    (tmp_path / "list.yaml").write_text("kind: List\nitems:\n- {kind: ServiceAccount, metadata: {name: a}}\n")
    (tmp_path / "typed.json").write_text('{"kind": "ServiceAccountList", "items": [{"metadata": {"name": "b"}}]}')
    (tmp_path / "empty.yml").write_text("kind: List\n")
    (tmp_path / "notes.txt").write_text("not read")
    (tmp_path / ".hidden.yaml").write_text("not read: [")

    accounts = ManifestAccounts(tmp_path)

    assert accounts.find("default", "a") is not None
    assert accounts.find("default", "b") is not None
    assert len(accounts) == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "holds no ServiceAccount"),
        ("kind: Pod", "holds no ServiceAccount"),
        ("a: [", "is no YAML or JSON"),
        ("\x00", "is no YAML or JSON"),
        ("7", "is a int, not an object"),
        ("a: 1", "has no kind"),
        ("kind: List\nitems: 7", "must be a list"),
        ("kind: ServiceAccount", "is no ServiceAccount"),
        ("kind: ServiceAccount\nmetadata: {name: 7}", "metadata.name"),
        ("kind: ServiceAccount\nmetadata: {name: a, annotations: {x: true}}", "quote values such as true"),
        (account("a") + "---\n" + account("a"), "shop/a stands in .*document 1 already"),
        ("a: &a [*a]\nkind: [*a]", "has no kind"),
        ("[" * 3000, "is"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(content: str, words: str, tmp_path: Path) -> None:
    """File, document and field are named."""
    file = tmp_path / "accounts.yaml"
    file.write_text(content)

    with pytest.raises(ManifestError, match=words) as raised:
        ManifestAccounts(file)

    assert "accounts.yaml" in str(raised.value)


def test_missing_files_and_empty_folders(tmp_path: Path) -> None:
    """A path that does not exist, a folder without manifests, a file that cannot be read."""
    with pytest.raises(ManifestError, match="does not exist"):
        ManifestAccounts(tmp_path / "none")
    with pytest.raises(ManifestError, match=r"has no manifest; files must end in .yaml, .yml, .json"):
        ManifestAccounts(tmp_path)
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(ManifestError, match="cannot be read: Is a directory"):
        ManifestAccounts(tmp_path)


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    """At most 32 MiB; a sparse file of more is not read on."""
    file = tmp_path / "huge.yaml"
    with file.open("wb") as stream:
        stream.truncate(33 * 1024 * 1024)

    with pytest.raises(ManifestError, match="is larger than"):
        ManifestAccounts(file)


def test_a_change_is_read_and_a_broken_one_is_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After a change the new accounts count; a change that cannot be read is logged once and the old ones stay."""
    file = tmp_path / "accounts.yaml"
    file.write_text(account("a"))
    accounts = ManifestAccounts(file)
    caplog.set_level("INFO")

    accounts.refresh()
    file.write_text(account("a") + "---\n" + account("b"))
    accounts.refresh()

    assert len(accounts) == 2
    file.write_text("broken: [")
    accounts.refresh()
    os.remove(file)  # noqa: PTH107
    accounts.refresh()
    accounts.refresh()
    assert len(accounts) == 2
    assert [record.message for record in caplog.records] == [
        "files read again",
        "files cannot be read again, what was read stays",
        "files cannot be read again, what was read stays",
    ]
