"""The cluster's service accounts: followed, or read one at a time; only names and annotations are kept.

Source: kubernetes.io/docs/reference/using-api/api-concepts, "Alternate representations": metadata-only fetches.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec

from azwi.cluster.api import read_object, request, segment
from azwi.cluster.feed import Feed, Watched
from azwi.errors import ClusterError

if TYPE_CHECKING:
    import httpx2

    from azwi.cluster.feed import Sink

READ_SECONDS: Final = 1.0  # for one live read (D 19)
_PATH: Final = "/api/v1/serviceaccounts"
_METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_NOT_FOUND: Final = 404


class _Metadata(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    resource_version: str = ""
    annotations: dict[str, str] | None = None


class _Object(msgspec.Struct):
    metadata: _Metadata


class AccountRecord(msgspec.Struct, frozen=True):
    """A service account as the API server has it."""

    namespace: str
    name: str
    resource_version: str
    annotations: dict[str, str]


def follow_accounts(client: httpx2.AsyncClient, sink: Sink[AccountRecord]) -> Feed[AccountRecord]:
    """A feed of all service accounts."""
    return Feed(client, Watched("service accounts", _PATH, _record, {}, _METADATA, _METADATA_LIST), sink)


async def read_account(client: httpx2.AsyncClient, namespace: str, name: str) -> AccountRecord | None:
    """One account, as the server has it now; None where there is none.

    Raises:
        ClusterError: The server cannot say, in its own words, or not within a second.
    """
    path = f"/api/v1/namespaces/{segment(namespace)}/serviceaccounts/{segment(name)}"
    try:
        async with asyncio.timeout(READ_SECONDS):
            return _record(await request(client, "GET", path, accept=_METADATA, tries=1))
    except TimeoutError as problem:
        raise ClusterError(f"the API server gave no answer within {READ_SECONDS:g} s") from problem
    except msgspec.MsgspecError as problem:
        raise ClusterError(f"the API server gave something that is no service account: {problem}") from problem
    except ClusterError as problem:
        if problem.status == _NOT_FOUND:
            return None
        raise


async def read_git_version(client: httpx2.AsyncClient) -> str:
    """The API server's version, such as v1.34.4.

    Raises:
        ClusterError: It cannot be asked.
    """
    return str((await read_object(client, "/version", tries=1)).get("gitVersion", ""))


def _record(document: msgspec.Raw | bytes) -> AccountRecord:
    metadata = msgspec.json.decode(document, type=_Object).metadata
    return AccountRecord(metadata.namespace, metadata.name, metadata.resource_version, metadata.annotations or {})
