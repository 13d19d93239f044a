"""The service accounts that the webhook knows, here from manifests in place of an API server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from azwi.admission.pod import View
from azwi.admission.serviceaccount import ServiceAccount, read_service_account
from azwi.errors import ManifestError
from azwi.webhook.files import FollowedFiles

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from azwi.cluster.manifests import Manifest

AccountKey = tuple[str, str]  # namespace, name


class Accounts(Protocol):
    """Where the webhook looks an account up."""

    def find(self, namespace: str, name: str) -> ServiceAccount | None:
        """The account, None where there is none."""


class KnownAccounts(Accounts, Protocol):
    """Accounts that are kept up to date."""

    def refresh(self) -> None:
        """Called every second."""

    def __len__(self) -> int:
        """How many accounts are known."""


class _Metadata(View):
    name: str
    namespace: str | None = None
    annotations: dict[str, str] | None = None


class _Document(View):
    metadata: _Metadata


def index_accounts(manifests: Iterable[Manifest]) -> dict[AccountKey, ServiceAccount]:
    """The ServiceAccounts among manifests, by namespace and name; other kinds are left out.

    Raises:
        ManifestError: An account has a field of the wrong type, or is there twice.
    """
    accounts: dict[AccountKey, ServiceAccount] = {}
    places: dict[AccountKey, str] = {}
    for manifest in manifests:
        if manifest.kind != "ServiceAccount":
            continue
        try:
            metadata = msgspec.convert(manifest.document, _Document).metadata
        except msgspec.ValidationError as problem:
            hint = "names and annotations are strings: quote values such as true or 3600"
            raise ManifestError(f"{manifest.where} is no ServiceAccount: {problem}", hint=hint) from problem
        key = (metadata.namespace or "default", metadata.name)
        if key in places:
            message = f"{manifest.where}: service account {key[0]}/{key[1]} stands in {places[key]} already"
            raise ManifestError(message, hint="remove one of them")
        places[key] = manifest.where
        accounts[key] = read_service_account(metadata.annotations or {})
    return accounts


class ManifestAccounts:
    """Service accounts from a file or folder, read again when it changes."""

    def __init__(self, path: Path) -> None:
        """Read the manifests.

        Raises:
            ManifestError: They cannot be read, or hold no ServiceAccount.
        """
        # Only needed without an API server, and not small.
        from azwi.cluster.manifests import list_files  # noqa: PLC0415

        self._path = path
        self._accounts: dict[AccountKey, ServiceAccount] = {}
        self._files = FollowedFiles("service accounts", lambda: list_files(path), self._read)
        self.refresh = self._files.refresh

    def find(self, namespace: str, name: str) -> ServiceAccount | None:
        """The account, None where there is none."""
        return self._accounts.get((namespace, name))

    def __len__(self) -> int:
        """How many accounts are known."""
        return len(self._accounts)

    def _read(self) -> None:
        from azwi.cluster.manifests import read_manifests  # noqa: PLC0415

        accounts = index_accounts(read_manifests(self._path))
        if not accounts:
            raise ManifestError(f"{self._path} holds no ServiceAccount", hint="add the accounts that Pods name")
        self._accounts = accounts
