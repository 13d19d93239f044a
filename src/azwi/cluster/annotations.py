"""One service account at a time: our annotations by server-side apply, deletion, and a token to prove it works.

Only annotations are ever written, under the field manager `azwi`; nothing here reads or writes a Secret.

Source: kubernetes.io/docs/reference/using-api/server-side-apply, "Conflicts", "Field management"; "TokenRequest".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from azwi.cluster.api import JSON, as_object, request, segment
from azwi.contract import PREFIX
from azwi.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx2

    from azwi.cluster.api import JsonObject

FIELD_MANAGER: Final = "azwi"
_APPLY: Final = "application/apply-patch+yaml"
_NOT_FOUND: Final = 404
_CONFLICT: Final = 409
_FORBIDDEN: Final = 403
_HINTS: Final = {
    _NOT_FOUND: "create the namespace first",
    _FORBIDDEN: "the user of the kubeconfig needs get, patch, create and delete of serviceaccounts there, and create "
    "of serviceaccounts/token for --wait",
}
_TOKEN_SECONDS: Final = 600  # the shortest that the API server gives


@dataclass(frozen=True, slots=True)
class Account:
    """A service account as it is.

    Attributes:
        annotations: Those of ours, by their whole names.
        owners: Who manages each of them: annotation to field managers; none for what nobody applied.
        uid: Tells it from a later one of the same name.
        foreign: How many other labels and annotations, pull secrets and secrets it has: what deleting it would lose.
    """

    namespace: str
    name: str
    annotations: Mapping[str, str]
    owners: Mapping[str, tuple[str, ...]]
    uid: str
    foreign: int

    @property
    def applied(self) -> frozenset[str]:
        """The annotations that azwi has applied."""
        return frozenset(name for name, owners in self.owners.items() if FIELD_MANAGER in owners)


class OwnershipError(ClusterError):
    """An annotation that is to change belongs to somebody else, who would change it back."""

    code = "conflict"


def read_account(document: Mapping[str, Any]) -> Account:
    """The account in a ServiceAccount document with its managed fields."""
    metadata = document["metadata"]
    annotations = metadata.get("annotations") or {}
    others = len([name for name in annotations if not name.startswith(PREFIX)]) + len(metadata.get("labels") or {})
    return Account(
        namespace=metadata["namespace"],
        name=metadata["name"],
        annotations={name: value for name, value in annotations.items() if name.startswith(PREFIX)},
        owners=_owners(metadata.get("managedFields") or ()),
        uid=str(metadata.get("uid") or ""),
        foreign=others + len(document.get("imagePullSecrets") or ()) + len(document.get("secrets") or ()),
    )


def _owners(managed: Any) -> dict[str, tuple[str, ...]]:  # noqa: ANN401  # JSON
    owners: dict[str, tuple[str, ...]] = {}
    for entry in managed:
        fields = ((entry.get("fieldsV1") or {}).get("f:metadata") or {}).get("f:annotations") or {}
        for field in fields:
            name = field.removeprefix("f:")
            if name.startswith(PREFIX):
                manager = str(entry.get("manager") or "unknown")
                owners[name] = tuple(dict.fromkeys((*owners.get(name, ()), manager)))
    return owners


class AccountWriter:
    """The service accounts of a cluster, one at a time.

    Args:
        client: Of the API server; whoever made it closes it.
    """

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client

    async def read(self, namespace: str, name: str) -> Account | None:
        """The account as the API server has it now; None where there is none.

        Raises:
            ClusterError: It cannot be asked, or refuses.
        """
        try:
            return read_account(as_object(await self._ask("GET", _path(namespace, name))))
        except ClusterError as problem:
            if problem.status == _NOT_FOUND:
                return None
            raise

    async def apply(self, namespace: str, name: str, annotations: Mapping[str, str], *, force: bool) -> Account:
        """Make exactly these our annotations of the account, which is made if it is not there.

        What azwi applied before and does not name now goes; everything else stays.

        Raises:
            OwnershipError: Somebody else manages one of them with another value, and `force` is off.
            ClusterError: The API server cannot be asked, or refuses.
        """
        document = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": namespace, "annotations": dict(annotations)},
        }
        query = {"fieldManager": FIELD_MANAGER, "force": "true" if force else "false"}
        try:
            answer = await self._ask("PATCH", _path(namespace, name), document, query=query, content_type=_APPLY)
        except ClusterError as problem:
            if problem.status == _CONFLICT:
                raise await self._ownership(namespace, name, annotations) from problem
            raise
        return read_account(as_object(answer))

    async def release(self, account: Account) -> bool:
        """Take our annotations from exactly this account, which is never made; False where it was gone.

        Raises:
            ClusterError: As `read`; also where another of that name has taken its place.
        """
        metadata: JsonObject = {"name": account.name, "namespace": account.namespace, "annotations": {}}
        if account.uid:
            metadata["uid"] = account.uid
        document = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
        path, query = _path(account.namespace, account.name), {"fieldManager": FIELD_MANAGER, "force": "false"}
        try:
            await self._ask("PATCH", path, document, query=query, content_type=_APPLY)
        except ClusterError as problem:
            if problem.status == _CONFLICT and await self.read(account.namespace, account.name) is None:
                return False
            raise
        return True

    async def delete(self, account: Account) -> bool:
        """Delete exactly this account; False where it was gone.

        Raises:
            ClusterError: As `read`; also where another of that name has taken its place.
        """
        options: JsonObject = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if account.uid:
            options["preconditions"] = {"uid": account.uid}
        try:
            await self._ask("DELETE", _path(account.namespace, account.name), options)
        except ClusterError as problem:
            if problem.status == _NOT_FOUND:
                return False
            raise
        return True

    async def issue_token(self, namespace: str, name: str, audience: str) -> str:
        """A token of the account for an audience, as a kubelet asks for it.

        Raises:
            ClusterError: As `read`.
        """
        spec = {"audiences": [audience], "expirationSeconds": _TOKEN_SECONDS}
        document = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        answer = as_object(await self._ask("POST", f"{_path(namespace, name)}/token", document))
        return str(answer["status"]["token"])

    async def read_issuer(self) -> str:
        """The issuer of the cluster's tokens; empty where the caller may not see it.

        Raises:
            ClusterError: The API server cannot be asked.
        """
        try:
            answer = as_object(await self._ask("GET", "/.well-known/openid-configuration"))
        except ClusterError as problem:
            if problem.status:
                return ""
            raise
        return str(answer.get("issuer") or "")

    async def _ownership(self, namespace: str, name: str, annotations: Mapping[str, str]) -> OwnershipError:
        """Who is in the way, by the managed fields."""
        found = await self.read(namespace, name)
        blocked = []
        for annotation, wanted in annotations.items():
            has = found.annotations.get(annotation) if found else None
            if found is not None and has is not None and has != wanted:
                others = [owner for owner in found.owners.get(annotation, ()) if owner != FIELD_MANAGER]
                blocked.append(f"{annotation} is {has!r}, managed by {' and '.join(others) or 'somebody else'}")
        said = "; ".join(blocked) or "its annotations are managed by somebody else"
        return OwnershipError(
            f"service account {namespace}/{name}: {said}",
            hint="change it where that manager has it from, or take it over with --overwrite",
            status=_CONFLICT,
        )

    async def _ask(
        self,
        method: str,
        path: str,
        document: JsonObject | None = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = JSON,
    ) -> bytes:
        try:
            return await request(self._client, method, path, document, query=query, content_type=content_type)
        except ClusterError as problem:
            hint = _HINTS.get(problem.status, "")
            raise ClusterError(problem.message, hint=hint, status=problem.status) from problem


def _path(namespace: str, name: str) -> str:
    return f"/api/v1/namespaces/{segment(namespace)}/serviceaccounts/{segment(name)}"
