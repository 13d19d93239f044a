"""The cluster's service accounts, listed once and watched from then on; only names and annotations are kept.

Source: kubernetes.io/docs/reference/using-api/api-concepts: retrieving large results sets in chunks, efficient
detection of changes, watch bookmarks, metadata-only fetches.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final, Protocol

import httpx2
import msgspec

from azwi.errors import ClusterError
from azwi.log import logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PAGE: Final = 500  # accounts of one answer
WATCH_SECONDS: Final = 300  # that the server keeps one watch open, and up to twice as long by chance
READ_SECONDS: Final = 1.0  # for one live read (D 19)
_FIRST_DELAY: Final = 0.5  # seconds after a failure; doubles
_LONGEST_DELAY: Final = 30.0
_PATH: Final = "/api/v1/serviceaccounts"
_METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_MAX_LINE: Final = 4 << 20  # bytes; an object is at most 1.5 MiB in etcd
_GONE: Final = 410
_NOT_FOUND: Final = 404

log = logger("cluster")


class _Metadata(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    resource_version: str = ""
    annotations: dict[str, str] | None = None


class _Object(msgspec.Struct):
    metadata: _Metadata


class _ListMetadata(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")


class _List(msgspec.Struct):
    metadata: _ListMetadata
    items: list[_Object]


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Status(msgspec.Struct):
    message: str = ""
    code: int = 0


class AccountRecord(msgspec.Struct, frozen=True):
    """A service account as the API server has it."""

    namespace: str
    name: str
    resource_version: str
    annotations: dict[str, str]


class AccountSink(Protocol):
    """Who wants to know."""

    def replace(self, records: list[AccountRecord]) -> None:
        """These are all there are."""

    def put(self, record: AccountRecord) -> None:
        """This one is new, or has changed."""

    def remove(self, record: AccountRecord) -> None:
        """This one is gone; the record is its last state."""


class _ExpiredError(Exception):
    """The server does not remember what we continue from: list anew."""


class AccountFeed:
    """Keeps a sink up to date, whatever happens to the API server.

    Attributes:
        synced: Set once the first list is complete.
        restarts: How often a watch failed and was begun again.
        last_heard: When the server last said anything, by the loop's clock.
    """

    def __init__(self, client: httpx2.AsyncClient, sink: AccountSink) -> None:
        self._client = client
        self._sink = sink
        self.synced = asyncio.Event()
        self.connected = asyncio.Event()
        self.restarts = 0
        self.last_heard = 0.0

    async def run(self) -> None:
        """List and watch until cancelled; failures are logged and tried again, ever more slowly."""
        version, delay = "", _FIRST_DELAY
        while True:
            try:
                if not version:
                    version = await self._list()
                reached = ""
                async for reached in self._watch(version):  # noqa: B007  # the last one counts
                    delay = _FIRST_DELAY
                if not reached:  # ended without a word; asked again at once it might go on like that
                    await asyncio.sleep(_FIRST_DELAY)
                version = reached or version
            except _ExpiredError:
                version = ""
                self.restarts += 1
            except (httpx2.HTTPError, ClusterError, msgspec.MsgspecError) as problem:
                self.restarts += 1
                self.connected.clear()
                log.warning("service accounts are not followed", extra={"fields": {"problem": describe(problem)}})
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311  # spread, no secret
                delay = min(delay * 2, _LONGEST_DELAY)

    async def _list(self) -> str:
        """All accounts, page by page; gives the version to watch from."""
        records: list[AccountRecord] = []
        token = ""
        while True:
            query = {"limit": str(PAGE)} | ({"continue": token} if token else {})
            answer = await self._client.get(_PATH, params=query, headers={"Accept": _METADATA_LIST})
            _check(answer)
            page = msgspec.json.decode(answer.content, type=_List)
            records += [_record(item.metadata) for item in page.items]
            self._heard()
            token = page.metadata.continue_
            if not token:
                break
        self._sink.replace(records)
        self.synced.set()
        log.info("service accounts listed", extra={"fields": {"count": len(records)}})
        return page.metadata.resource_version

    async def _watch(self, version: str) -> AsyncIterator[str]:
        """The changes since a version; gives the version reached after each, and ends when the server ends it."""
        seconds = int(WATCH_SECONDS * random.uniform(1.0, 2.0))  # noqa: S311  # spread, no secret
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(seconds),
        }
        timeout = httpx2.Timeout(10.0, read=seconds + 30.0)
        accept = {"Accept": _METADATA}
        async with self._client.stream("GET", _PATH, params=query, headers=accept, timeout=timeout) as answer:
            if not answer.is_success:
                await answer.aread()
                _check(answer)
            self._heard()
            async for line in _lines(answer):
                self._heard()
                yield self._apply(msgspec.json.decode(line, type=_Event))

    def _apply(self, event: _Event) -> str:
        if event.type == "ERROR":
            status = msgspec.json.decode(event.object, type=_Status)
            if status.code == _GONE:
                raise _ExpiredError
            raise ClusterError(status.message or f"the watch failed with {status.code}")
        metadata = msgspec.json.decode(event.object, type=_Object).metadata
        if event.type in {"ADDED", "MODIFIED"}:
            self._sink.put(_record(metadata))
        elif event.type == "DELETED":
            self._sink.remove(_record(metadata))
        return metadata.resource_version  # a BOOKMARK has nothing else

    def _heard(self) -> None:
        self.connected.set()
        self.last_heard = asyncio.get_running_loop().time()

    async def read(self, namespace: str, name: str) -> AccountRecord | None:
        """One account, as the server has it now; None where there is none.

        Raises:
            ClusterError: The server cannot say, in its own words, or not within a second.
        """
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}"
        try:
            async with asyncio.timeout(READ_SECONDS):
                answer = await self._client.get(path, headers={"Accept": _METADATA})
        except TimeoutError as problem:
            raise ClusterError(f"the API server gave no answer within {READ_SECONDS:g} s") from problem
        except httpx2.HTTPError as problem:
            raise ClusterError(f"the API server cannot be asked: {describe(problem)}") from problem
        if answer.status_code == _NOT_FOUND:
            return None
        _check(answer)
        return _record(msgspec.json.decode(answer.content, type=_Object).metadata)


async def read_git_version(client: httpx2.AsyncClient) -> str:
    """The API server's version, such as v1.34.4.

    Raises:
        ClusterError: It cannot be asked.
    """
    try:
        answer = await client.get("/version")
    except httpx2.HTTPError as problem:
        raise ClusterError(f"the API server cannot be asked: {describe(problem)}") from problem
    _check(answer)
    return str(answer.json().get("gitVersion", ""))


def describe(problem: Exception) -> str:
    """An error in words; some of httpx2's have none."""
    return str(problem) or type(problem).__name__


def _check(answer: httpx2.Response) -> None:
    """Raise what an answer says that is not a success."""
    if answer.is_success:
        return
    if answer.status_code == _GONE:
        raise _ExpiredError
    try:
        message = msgspec.json.decode(answer.content, type=_Status).message
    except (msgspec.MsgspecError, ValueError):
        message = ""
    raise ClusterError(message or f"the API server answered {answer.status_code}")


def _record(metadata: _Metadata) -> AccountRecord:
    return AccountRecord(metadata.namespace, metadata.name, metadata.resource_version, metadata.annotations or {})


async def _lines(answer: httpx2.Response) -> AsyncIterator[bytes]:
    """The lines of a stream, each a JSON document."""
    rest = bytearray()
    async for chunk in answer.aiter_bytes():
        rest += chunk
        *whole, last = rest.split(b"\n")
        for line in whole:
            if line.strip():
                yield bytes(line)
        rest = bytearray(last)
        if len(rest) > _MAX_LINE:
            raise ClusterError(f"the watch sent a line of more than {_MAX_LINE} bytes")
