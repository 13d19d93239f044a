"""The service accounts that the webhook knows, here from manifests in place of an API server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from azwi.admission.pod import View
from azwi.admission.serviceaccount import ServiceAccount, read_service_account
from azwi.errors import AzwiError, ManifestError
from azwi.log import logger

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from azwi.cluster.manifests import Manifest

log = logger("webhook")

AccountKey = tuple[str, str]  # namespace, name


class Accounts(Protocol):
    """Where the webhook looks an account up."""

    def find(self, namespace: str, name: str) -> ServiceAccount | None:
        """The account, None where there is none."""


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
    """Service accounts from a file or folder, read again when it changes.

    A change that cannot be read is logged and the accounts read before stay.
    """

    def __init__(self, path: Path) -> None:
        """Read the manifests.

        Raises:
            ManifestError: They cannot be read.
        """
        self._path = path
        self._signature = self._look()
        self._accounts = self._read()

    def find(self, namespace: str, name: str) -> ServiceAccount | None:
        """The account, None where there is none."""
        return self._accounts.get((namespace, name))

    def __len__(self) -> int:
        """How many accounts are known."""
        return len(self._accounts)

    def refresh(self) -> None:
        """Read the manifests again if a file has changed."""
        try:
            signature = self._look()
            if signature == self._signature:
                return
            self._signature = signature
            self._accounts = self._read()
        except AzwiError as problem:
            log.exception(
                "service accounts cannot be read again, the old ones stay", extra={"fields": {"error": problem}}
            )
        else:
            log.info("service accounts read again", extra={"fields": {"accounts": len(self)}})

    def _read(self) -> dict[AccountKey, ServiceAccount]:
        # Only needed without an API server, and not small.
        from azwi.cluster.manifests import read_manifests  # noqa: PLC0415

        accounts = index_accounts(read_manifests(self._path))
        if not accounts:
            raise ManifestError(f"{self._path} holds no ServiceAccount", hint="add the accounts that Pods name")
        return accounts

    def _look(self) -> tuple[object, ...]:
        from azwi.cluster.manifests import list_files  # noqa: PLC0415

        try:
            states = [(file, file.stat()) for file in list_files(self._path)]
        except OSError as problem:
            raise ManifestError(f"{self._path} cannot be read: {problem.strerror}") from problem
        return tuple((file, state.st_mtime_ns, state.st_size, state.st_ino) for file, state in states)
