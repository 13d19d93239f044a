"""The feed of service accounts against an API server that a test scripts: pages, events, and everything that fails."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from azwi.cluster.serviceaccounts import AccountRecord, follow_accounts, read_account, read_git_version
from azwi.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from azwi.cluster.feed import Feed

Script = list[Any]


def item(name: str, version: int = 1, **annotations: str) -> dict[str, Any]:
    """The metadata of an account, as PartialObjectMetadata."""
    return {
        "metadata": {"name": name, "namespace": "shop", "resourceVersion": str(version), "annotations": annotations}
    }


def page(*items: dict[str, Any], version: str = "10", token: str = "") -> httpx2.Response:
    """One page of a list."""
    return httpx2.Response(200, json={"metadata": {"resourceVersion": version, "continue": token}, "items": items})


def status(code: int, message: str) -> httpx2.Response:
    """A refusal as the API server has it."""
    return httpx2.Response(code, json={"kind": "Status", "message": message, "code": code})


def event(kind: str, content: dict[str, Any]) -> bytes:
    """One line of a watch."""
    return json.dumps({"type": kind, "object": content}).encode() + b"\n"


class Lines(httpx2.AsyncByteStream):
    """A watch that sends these parts and ends, or stays open."""

    def __init__(self, *parts: bytes, stays: bool = False) -> None:
        self._parts = parts
        self._stays = stays

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            yield part
        if self._stays:
            await asyncio.sleep(3600)


class Silent(Lines):
    """A watch that sends these parts and then nothing, until its reader gives up."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in super().__aiter__():
            yield part
        raise httpx2.ReadTimeout("")


def watch(*parts: bytes, stays: bool = False) -> httpx2.Response:
    """A watch's answer."""
    return httpx2.Response(200, stream=Lines(*parts, stays=stays))


class Sink:
    """What the feed says, as a list and as a state."""

    def __init__(self) -> None:
        self.known: dict[str, dict[str, str]] = {}
        self.lists = 0

    def replace(self, found: list[AccountRecord]) -> None:
        """All."""
        self.lists += 1
        self.known = {record.name: record.annotations for record in found}

    def put(self, found: AccountRecord) -> None:
        """One."""
        self.known[found.name] = found.annotations

    def remove(self, found: AccountRecord) -> None:
        """One less."""
        self.known.pop(found.name, None)


def follow(
    script: Script, until: Callable[[Feed[AccountRecord], Sink], bool]
) -> tuple[Feed[AccountRecord], Sink, list[httpx2.Request]]:
    """Run the feed against answers in their order, until it has come that far; the last answer repeats."""
    asked: list[httpx2.Request] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        answer = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, httpx2.Response)
        return answer

    async def run() -> tuple[Feed[AccountRecord], Sink]:
        transport = httpx2.MockTransport(handle)
        async with httpx2.AsyncClient(transport=transport, base_url="https://api.invalid") as client:
            sink = Sink()
            feed = follow_accounts(client, sink)
            task = asyncio.create_task(feed.run())
            try:
                async with asyncio.timeout(10):
                    while not until(feed, sink):
                        assert not task.done(), task.exception()
                        await asyncio.sleep(0.01)
            finally:
                task.cancel()
            return feed, sink

    feed, sink = asyncio.run(run())
    return feed, sink, asked


def test_pages_then_events() -> None:
    """All pages make one list; events change it, in whatever pieces they arrive; bookmarks move the version on."""
    added, gone = event("ADDED", item("c", 11)), event("DELETED", item("a", 12))
    changed, mark = event("MODIFIED", item("b", 13, k="v")), event("BOOKMARK", item("", 20))
    script: Script = [
        page(item("a"), token="next"),
        page(item("b")),
        watch(added[:7], added[7:] + gone + b"\n" + changed[:-1], b"\n" + mark),
        watch(stays=True),
    ]
    feed, sink, asked = follow(script, lambda feed, _: feed.synced.is_set() and len(script) == 1)

    assert {"b": {"k": "v"}, "c": {}} == sink.known
    assert (1, 0) == (sink.lists, feed.restarts)
    queries = [dict(request.url.params) for request in asked]
    assert [None, "next"] == [query.get("continue") for query in queries[:2]]
    assert ["10", "20"] == [query["resourceVersion"] for query in queries[2:4]]
    assert "PartialObjectMetadata" in asked[2].headers["accept"]


@pytest.mark.parametrize(
    "gone",
    [
        status(410, "too old resource version"),
        watch(event("ERROR", {"kind": "Status", "code": 410, "message": "too old"})),
    ],
)
def test_a_version_that_is_too_old_lists_anew(gone: httpx2.Response) -> None:
    """410 as an answer, and 410 as an event: what happened meanwhile is in the new list."""
    script: Script = [page(item("a")), gone, page(item("b"), version="30"), watch(stays=True)]

    feed, sink, _ = follow(script, lambda _, sink: sink.lists == 2)

    assert {"b": {}} == sink.known
    assert 1 == feed.restarts


@pytest.mark.parametrize(
    "failure",
    [
        httpx2.ConnectError("refused"),
        httpx2.ReadTimeout("late"),
        status(500, "etcd is down"),
        httpx2.Response(502, content=b"<html>"),
        watch(b"garbage\n"),
        watch(event("ERROR", {"code": 500, "message": "broken"})),
        watch(event("ERROR", {})),
        watch(b"x" * (5 << 20)),
    ],
)
def test_a_watch_that_fails_goes_on_where_it_was(failure: object) -> None:
    """What is known stays, and the watch begins again at the last version."""
    script: Script = [page(item("a")), failure, watch(event("ADDED", item("b", 11)), stays=True)]

    feed, sink, asked = follow(script, lambda _, sink: "b" in sink.known)

    assert {"a": {}, "b": {}} == sink.known
    assert (1, 1) == (sink.lists, feed.restarts)
    assert "10" == asked[-1].url.params["resourceVersion"]


@pytest.mark.parametrize(
    "garbage",
    [b'{"metadata":{},"items":[{"metadata":{"name":"\xff"}}]}', b'{"items":' + b"[" * 5000, b"\xff\xfe<html>", b"null"],
    ids=["bytes", "nesting", "another form", "nothing"],
)
def test_a_list_that_is_garbage_is_tried_again(garbage: bytes) -> None:
    """Whatever a server, or what stands before it, sends: what is known goes on being served."""
    _, sink, asked = follow([httpx2.Response(200, content=garbage), page(item("a"))], lambda _, sink: sink.lists > 0)
    assert ({"a"}, 2) == (set(sink.known), len(asked[:2]))


def test_a_list_that_fails_is_tried_again() -> None:
    """Also from its first page, where the token of the next one has expired."""
    script: Script = [
        status(403, 'serviceaccounts is forbidden: User "x" cannot list resource'),
        page(item("a"), token="next"),
        status(410, "the provided continue parameter is too old"),
        page(item("b")),
        watch(stays=True),
    ]
    feed, sink, _ = follow(script, lambda feed, _: feed.synced.is_set())
    assert ({"b": {}}, 2) == (sink.known, feed.restarts)


def test_a_watch_that_ends_without_a_word_is_not_hammered() -> None:
    """An answer that ends at once is asked for again after a pause."""
    script: Script = [page(item("a")), watch()]

    follow(script, lambda feed, _: feed.synced.is_set())
    _, _, asked = follow([page(item("a")), watch(), watch(), watch(stays=True)], lambda feed, _: feed.synced.is_set())
    assert len(asked) <= 3


def ask(answer: object, use: Callable[[httpx2.AsyncClient], Awaitable[object]]) -> object:
    """One question to a server with one answer."""

    def handle(_: httpx2.Request) -> httpx2.Response:
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, httpx2.Response)
        return answer

    async def run() -> object:
        transport = httpx2.MockTransport(handle)
        async with httpx2.AsyncClient(transport=transport, base_url="https://api.invalid") as client:
            return await use(client)

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("script", "most"), [([status(410, "gone")], 4), ([page(), status(410, "gone")] * 20, 8)], ids=["lists", "watches"]
)
def test_what_a_server_always_forgets_is_not_hammered(script: Script, most: int) -> None:
    """410 for each list, or for each watch right after its list: once at once, then ever more slowly."""
    over = time.monotonic() + 0.8
    _, _, asked = follow(script, lambda *_: time.monotonic() > over)
    assert 2 <= len(asked) <= most


def test_a_watch_that_falls_silent_is_begun_anew() -> None:
    """As after a broken path on which nobody says so: the next one goes on from where it was, and nothing is listed."""
    silent = httpx2.Response(200, stream=Silent(event("ADDED", item("a", 11))))
    script = [page(), silent, watch(event("ADDED", item("b", 12)), stays=True)]
    feed, sink, asked = follow(script, lambda _, sink: "b" in sink.known)
    assert (1, {"a", "b"}, 1) == (sink.lists, set(sink.known), feed.restarts)
    assert "11" == asked[2].url.params["resourceVersion"]
    assert asked[1].extensions["timeout"]["read"] < 300


def test_one_account_is_read() -> None:
    """As the server has it; None where it has none."""

    async def read(client: httpx2.AsyncClient) -> object:
        return await read_account(client, "shop", "a")

    assert AccountRecord("shop", "a", "7", {"k": "v"}) == ask(httpx2.Response(200, json=item("a", 7, k="v")), read)
    assert None is ask(status(404, 'serviceaccounts "a" not found'), read)


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ('serviceaccounts "a" is forbidden', status(403, 'serviceaccounts "a" is forbidden')),
        ("the API server answered 502", httpx2.Response(502, content=b"<html>")),
        ("the API server", httpx2.Response(200, content=b"garbage")),
        ("cannot be asked: refused", httpx2.ConnectError("refused")),
        ("cannot be asked: ReadTimeout", httpx2.ReadTimeout("")),
    ],
)
def test_a_question_that_fails_has_the_servers_words(words: str, answer: object) -> None:
    """For one account and for the version."""

    async def read(client: httpx2.AsyncClient) -> object:
        return await read_account(client, "shop", "a")

    for question in (read, read_git_version):
        with pytest.raises(ClusterError, match=words):
            ask(answer, question)
    assert "v1.34.4" == ask(httpx2.Response(200, json={"gitVersion": "v1.34.4"}), read_git_version)
