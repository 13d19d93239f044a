"""Single requests: which failures are tried again, how often, and what is told of the others."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from azwi.cluster.api import read_object, request
from azwi.cluster.retries import LONGEST, delay_after, passes_by_itself
from azwi.cluster.serviceaccounts import read_account
from azwi.errors import ClusterError


def ask(*answers: object) -> tuple[object, int]:
    """Ask a server with these answers; gives what came of it and how often it was asked."""
    left, count = list(answers), 0

    def handle(_: httpx2.Request) -> httpx2.Response:
        nonlocal count
        count += 1
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, httpx2.Response)
        return answer

    async def run() -> object:
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(handle), base_url="https://api.invalid") as client:
            try:
                return await request(client, "GET", "/x")
            except ClusterError as problem:
                return problem

    return asyncio.run(run()), count


def status(code: int, **headers: str) -> httpx2.Response:
    """A refusal as the API server has it."""
    return httpx2.Response(code, json={"message": f"refused with {code}"}, headers=headers)


def test_what_passes_by_itself_is_tried_again() -> None:
    """A busy server, and one that is just starting."""
    good = httpx2.Response(200, content=b"good")
    answer, count = ask(status(429, **{"retry-after": "0"}), httpx2.ConnectError("refused"), good)
    assert (b"good", 3) == (answer, count)


@pytest.mark.parametrize("code", [400, 401, 403, 404, 409, 410, 422])
def test_what_does_not_is_told_at_once(code: int) -> None:
    """In the server's own words, with its status."""
    problem, count = ask(status(code))
    assert isinstance(problem, ClusterError)
    assert (f"refused with {code}", code, 1) == (problem.message, problem.status, count)


def test_an_answer_that_is_no_object_is_told() -> None:
    """As an error of ours."""

    async def run() -> Any:  # noqa: ANN401
        transport = httpx2.MockTransport(lambda _: httpx2.Response(200, content=b"[1]"))
        async with httpx2.AsyncClient(transport=transport, base_url="https://api.invalid") as client:
            return await read_object(client, "/x")

    with pytest.raises(ClusterError, match="no JSON object"):
        asyncio.run(run())


@given(st.integers(1, 1000), st.floats(0, 1), st.sampled_from([None, "5", "soon", "Wed, 21 Oct 2026 07:28:00 GMT"]))
def test_waits_are_bounded(failures: int, chance: float, retry_after: str | None) -> None:
    """Never nothing, never more than half a minute unless the server asks for more; spread over half of it."""
    delay = delay_after(failures, chance, retry_after)
    assert 0.25 <= delay <= LONGEST
    assert 60.5 >= delay_after(failures, chance, "86400")
    if retry_after == "5":
        assert delay >= 5.0


def test_no_answer_passes_by_itself() -> None:
    """A connection that is refused has no status."""
    assert passes_by_itself(0)
    assert not passes_by_itself(404)


@pytest.mark.parametrize("name", ["a\nb", "x" * 70_000, "x/../y", "..", ".", "", "x?y", "x#y", "%2e%2e", "\x00"])
def test_any_name_asks_for_that_object_or_for_none(name: str) -> None:
    """Pods name service accounts before anybody has checked the names."""
    paths: list[bytes] = []

    def handle(asked: httpx2.Request) -> httpx2.Response:
        paths.append(asked.url.raw_path)
        return status(404)

    async def run() -> None:
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(handle), base_url="https://api.invalid") as client:
            with contextlib.suppress(ClusterError):
                assert await read_account(client, "shop", name) is None

    asyncio.run(run())
    head = b"/api/v1/namespaces/shop/serviceaccounts/"
    assert all(path.startswith(head) and set(b"/?#").isdisjoint(path.removeprefix(head)) for path in paths)


def test_a_request_that_cannot_be_made_is_told() -> None:
    """And not tried again."""

    async def run() -> None:
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(lambda _: status(500))) as client:
            with pytest.raises(ClusterError, match="no request can be made of that"):
                await request(client, "GET", "https://api.invalid/" + "x" * 70_000)

    asyncio.run(run())
