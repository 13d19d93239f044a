"""Elections over a Lease that a small API server keeps with its conflicts: one leads, and another takes over."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from azwi.cluster.leases import Election, Pace, is_free, render_spec

if TYPE_CHECKING:
    from collections.abc import Callable

PACE = Pace(0.05, 0.5)


class Api:
    """One Lease with its resourceVersion."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.down = False
        self.version = 0

    def handle(self, request: httpx2.Request) -> httpx2.Response:
        """One request."""
        if self.down:
            return httpx2.Response(503, json={"message": "away"})
        if request.method == "GET":
            return httpx2.Response(200, json=self.lease) if self.lease else httpx2.Response(404, json={})
        document = json.loads(request.content)
        if request.method == "PUT":
            assert self.lease is not None
            if document["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
                return httpx2.Response(409, json={"message": "conflict"})
        self.version += 1
        document["metadata"]["resourceVersion"] = str(self.version)
        self.lease = document
        return httpx2.Response(200, json=document)


class Replica:
    """A replica that stands for election."""

    def __init__(self, client: httpx2.AsyncClient, name: str) -> None:
        self.election = Election(client, "azwi", "leader", name, PACE)
        self.works = 0
        self.task = asyncio.create_task(self.election.run(self._work))

    async def _work(self) -> None:
        self.works += 1
        try:
            await asyncio.sleep(3600)
        finally:
            self.works -= 1


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it, at most ten seconds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # what is waited for is another one's state
            await asyncio.sleep(0.01)


def test_one_of_two_leads_and_hands_over() -> None:
    """The lease is made where it is missing; whoever ends gives it up, and the other begins."""
    api = Api()

    async def run() -> None:
        transport = httpx2.MockTransport(api.handle)
        async with httpx2.AsyncClient(transport=transport, base_url="https://api.invalid") as client:
            one, two = Replica(client, "one"), Replica(client, "two")
            await until(lambda: one.works + two.works == 1)
            await asyncio.sleep(0.3)
            assert 1 == one.works + two.works
            leader, other = (one, two) if one.works else (two, one)
            assert leader.election.leading
            leader.task.cancel()
            await asyncio.wait([leader.task])
            assert api.lease is not None
            assert (0, False) == (leader.works, leader.election.leading)
            await until(lambda: other.works == 1)
            assert 2 == api.lease["spec"]["leaseTransitions"]
            other.task.cancel()
            await asyncio.wait([other.task])
            assert "" == api.lease["spec"]["holderIdentity"]

    asyncio.run(run())


def test_a_leader_that_cannot_renew_stops() -> None:
    """For a while it goes on, since the API server may only be busy; then it stops before another may begin."""
    api = Api()

    async def run() -> None:
        transport = httpx2.MockTransport(api.handle)
        async with httpx2.AsyncClient(transport=transport, base_url="https://api.invalid") as client:
            one = Replica(client, "one")
            await until(lambda: one.works == 1)
            api.down = True
            await asyncio.sleep(0.2)
            assert 1 == one.works
            await until(lambda: one.works == 0)
            assert not one.election.leading
            api.down = False
            await until(lambda: one.works == 1)
            one.task.cancel()
            await asyncio.wait([one.task])

    asyncio.run(run())


def test_work_that_fails_is_begun_again() -> None:
    """A defect there stops neither the webhook nor the next attempt."""
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        raise ValueError

    async def run() -> None:
        transport = httpx2.MockTransport(Api().handle)
        async with httpx2.AsyncClient(transport=transport, base_url="https://api.invalid") as client:
            task = asyncio.create_task(Election(client, "azwi", "leader", "one", PACE).run(work))
            await until(lambda: begun > 1)
            task.cancel()
            await asyncio.wait([task])

    asyncio.run(run())


@pytest.mark.parametrize(
    ("free", "spec", "unchanged"),
    [
        (True, {}, 0.0),
        (True, {"holderIdentity": ""}, 0.0),
        (False, {"holderIdentity": "other"}, 14.9),
        (True, {"holderIdentity": "other"}, 15.0),
        (False, {"holderIdentity": "other", "leaseDurationSeconds": 60}, 59.0),
        (True, {"holderIdentity": "other", "leaseDurationSeconds": 60}, 60.0),
    ],
)
def test_when_a_lease_may_be_taken(free: bool, spec: dict[str, Any], unchanged: float) -> None:  # noqa: FBT001
    """Nobody's, or of somebody who has been silent for as long as it lasts."""
    assert free == is_free(spec, unchanged)


def test_a_lease_says_since_when() -> None:
    """Taking counts a transition and notes the time; renewing only the time of renewal; what we do not know stays."""
    taken = render_spec({"strategy": "x"}, "one", 0.0)
    assert ("one", 1, "1970-01-01T00:00:00.000000Z", "x") == (
        taken["holderIdentity"],
        taken["leaseTransitions"],
        taken["acquireTime"],
        taken["strategy"],
    )
    renewed = render_spec(taken, "one", 60.0)
    assert (1, taken["acquireTime"]) == (renewed["leaseTransitions"], renewed["acquireTime"])
    assert "1970-01-01T00:01:00.000000Z" == renewed["renewTime"]
    assert "" == render_spec(renewed, "", 61.0)["holderIdentity"]
