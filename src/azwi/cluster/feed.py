"""Objects of a live cluster, listed once and watched from then on.

Source: kubernetes.io/docs/reference/using-api/api-concepts: retrieving large results sets in chunks, efficient
detection of changes, watch bookmarks, 410 Gone.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

import httpx2
import msgspec

from azwi.cluster.api import JSON, describe, refused
from azwi.cluster.retries import delay_after
from azwi.errors import ClusterError
from azwi.log import logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

PAGE: Final = 500  # objects of one answer
WATCH_SECONDS: Final = 300  # that the server keeps one watch open, and up to twice as long by chance
SILENCE: Final = 150.0  # seconds without a word after which a watch is begun anew; a bookmark comes once a minute
_PAUSE: Final = 0.5  # seconds, after a watch that ended without a word
_MAX_LINE: Final = 4 << 20  # bytes; an object is at most 1.5 MiB in etcd
_GONE: Final = 410
_USUAL: Final = (httpx2.HTTPError, ClusterError, msgspec.MsgspecError)  # what needs no traceback

log = logger("cluster")

T = TypeVar("T")


class _ObjectMetadata(msgspec.Struct, rename="camel"):
    resource_version: str = ""


class _Object(msgspec.Struct):
    metadata: _ObjectMetadata


class _ListMetadata(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")


class _List(msgspec.Struct):
    metadata: _ListMetadata
    items: list[msgspec.Raw]


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Status(msgspec.Struct):
    message: str = ""
    code: int = 0


class Sink(Protocol[T]):
    """Who wants to know."""

    def replace(self, found: list[T]) -> None:
        """These are all there are."""

    def put(self, found: T) -> None:
        """This one is new, or has changed."""

    def remove(self, found: T) -> None:
        """This one is gone; it is its last state."""


@dataclass(frozen=True)
class Watched(Generic[T]):
    """What is followed.

    Attributes:
        what: In words, for the log: `service accounts`.
        path: Of the collection.
        decode: Reads one object; may raise msgspec's errors.
        query: Selectors.
        accept: How objects are wanted.
        accept_list: How a list of them is wanted.
    """

    what: str
    path: str
    decode: Callable[[msgspec.Raw], T]
    query: Mapping[str, str] = field(default_factory=dict)
    accept: str = JSON
    accept_list: str = JSON


class _ExpiredError(Exception):
    """The server does not remember what we continue from: list anew."""


class _SilentError(Exception):
    """A watch was begun, and then nothing came."""


class Feed(Generic[T]):
    """Keeps a sink up to date, whatever happens to the API server.

    Attributes:
        synced: Set once the first list is complete.
        connected: Whether the last attempt to follow succeeded.
        restarts: How often a watch failed and was begun again.
        last_heard: When the server last said anything, by the loop's clock.
    """

    def __init__(self, client: httpx2.AsyncClient, watched: Watched[T], sink: Sink[T]) -> None:
        self._client = client
        self._watched = watched
        self._sink = sink
        self.synced = asyncio.Event()
        self.connected = asyncio.Event()
        self.restarts = 0
        self.last_heard = 0.0

    async def run(self) -> None:
        """List and watch until cancelled; failures are logged and tried again, ever more slowly."""
        version, failures = "", 0
        while True:
            heard = False
            try:
                if not version:
                    version = await self._list()
                async for reached in self._watch(version):
                    version, failures, heard = reached or version, 0, True
                if not heard:  # asked again at once it might go on like that
                    await asyncio.sleep(_PAUSE)
            except _ExpiredError:
                version = ""
                self.restarts += 1
                if failures:  # once it is what happens; again and again it must not be all that happens
                    await self._wait(failures)
                failures += 1
            except _SilentError:
                # The connection may be dead; if it is not, the next one goes on from here.
                self.restarts += 1
                log.info("the watch was silent", extra={"fields": {"what": self._watched.what, "seconds": SILENCE}})
            except Exception as problem:  # whatever a server sends: what is known goes on being served
                self.restarts += 1
                failures += 1
                self.connected.clear()
                fields = {"what": self._watched.what, "problem": describe(problem)}
                log.warning(
                    "objects are not followed", extra={"fields": fields}, exc_info=not isinstance(problem, _USUAL)
                )
                await self._wait(failures)

    async def _wait(self, failures: int) -> None:
        """After so many failures in a row."""
        await asyncio.sleep(delay_after(failures, random.random()))  # noqa: S311  # spread, no secret

    async def _list(self) -> str:
        """All objects, page by page; gives the version to watch from."""
        found: list[T] = []
        token = ""
        while True:
            query = {**self._watched.query, "limit": str(PAGE)} | ({"continue": token} if token else {})
            accept = {"Accept": self._watched.accept_list}
            answer = await self._client.get(self._watched.path, params=query, headers=accept)
            _check(answer)
            page = msgspec.json.decode(answer.content, type=_List)
            found += map(self._watched.decode, page.items)
            self._heard()
            token = page.metadata.continue_
            if not token:
                break
        self._sink.replace(found)
        self.synced.set()
        log.info("objects listed", extra={"fields": {"what": self._watched.what, "count": len(found)}})
        return page.metadata.resource_version

    async def _watch(self, version: str) -> AsyncIterator[str]:
        """The changes since a version; gives the version reached after each, and ends when the server ends it."""
        seconds = int(WATCH_SECONDS * random.uniform(1.0, 2.0))  # noqa: S311  # spread, no secret
        query = {
            **self._watched.query,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(seconds),
        }
        timeout = httpx2.Timeout(10.0, read=SILENCE)
        accept = {"Accept": self._watched.accept}
        stream = self._client.stream("GET", self._watched.path, params=query, headers=accept, timeout=timeout)
        async with stream as answer:
            if not answer.is_success:
                await answer.aread()
                _check(answer)
            self._heard()
            try:
                async for line in _lines(answer):
                    self._heard()
                    yield self._apply(msgspec.json.decode(line, type=_Event))
            except httpx2.ReadTimeout as silence:
                raise _SilentError from silence

    def _apply(self, event: _Event) -> str:
        if event.type == "ERROR":
            status = msgspec.json.decode(event.object, type=_Status)
            if status.code == _GONE:
                raise _ExpiredError
            raise ClusterError(status.message or f"the watch failed with {status.code}", status=status.code)
        if event.type in {"ADDED", "MODIFIED"}:
            self._sink.put(self._watched.decode(event.object))
        elif event.type == "DELETED":
            self._sink.remove(self._watched.decode(event.object))
        return msgspec.json.decode(event.object, type=_Object).metadata.resource_version  # all that a BOOKMARK has

    def _heard(self) -> None:
        self.connected.set()
        self.last_heard = asyncio.get_running_loop().time()


def _check(answer: httpx2.Response) -> None:
    """Raise what an answer says that is not a success."""
    if answer.status_code == _GONE:
        raise _ExpiredError
    if not answer.is_success:
        raise refused(answer)


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
