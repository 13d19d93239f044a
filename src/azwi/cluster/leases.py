"""One among replicas: who holds a Lease leads, as long as it goes on saying so.

Source: kubernetes.io/docs/concepts/architecture/leases, coordination.k8s.io/v1; the times are client-go's.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from azwi.cluster.api import FIELD_MANAGER, JsonObject, as_object, read_object, request
from azwi.errors import ClusterError
from azwi.log import WARNING, Once, logger

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    import httpx2

DURATION: Final = 15  # seconds that a lease lasts without being renewed
_DEADLINE: Final = 5.0  # seconds for one question
_NOT_FOUND: Final = 404
_CONFLICT: Final = 409

log = logger("cluster")


@dataclass(frozen=True, slots=True)
class Pace:
    """The times of an election, in seconds: between two renewals, and without one until whoever leads stops.

    The second is less than a lease lasts, so that nobody leads beside somebody who took over.
    """

    renew: float = 2.0
    give_up: float = 10.0


DEFAULT_PACE: Final = Pace()


def is_free(spec: JsonObject, unchanged: float) -> bool:
    """Whether a lease may be taken: nobody holds it, or its holder has been silent for as long as it lasts.

    Args:
        spec: The Lease's.
        unchanged: Seconds for which it has been what it is, by our own clock: clocks of others are not asked.
    """
    return not spec.get("holderIdentity") or unchanged >= float(spec.get("leaseDurationSeconds") or DURATION)


def render_spec(old: JsonObject, holder: str, now: float) -> JsonObject:
    """The spec of a lease that `holder` takes, renews or, with an empty name, gives up.

    `now` is in seconds since 1970.
    """
    moment = datetime.fromtimestamp(now, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    spec = {**old, "holderIdentity": holder, "leaseDurationSeconds": DURATION, "renewTime": moment}
    if holder and holder != old.get("holderIdentity"):
        spec["acquireTime"] = moment
        spec["leaseTransitions"] = int(old.get("leaseTransitions") or 0) + 1
    return spec


class Election:
    """Takes part in an election, and does the leader's work while it leads.

    Args:
        client: The connection.
        namespace: Of the Lease.
        name: Of the Lease; it is made where it is missing.
        identity: Of this replica, such as its Pod's name.
        pace: How fast.
    """

    def __init__(
        self, client: httpx2.AsyncClient, namespace: str, name: str, identity: str, pace: Pace = DEFAULT_PACE
    ) -> None:
        self._pace = pace
        self._client = client
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._name = name
        self._identity = identity
        self._seen: JsonObject = {}
        self._seen_at = 0.0
        self._renewed_at = float("-inf")
        self._trouble = Once(log, WARNING, "the lease cannot be had")
        self.leading = False

    async def run(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """Stand for election until cancelled.

        `work` runs while this replica leads; it is cancelled when the replica no longer does, and begun again where it
        fails. When cancelled the lease is given up, so that the next one need not wait.
        """
        task: asyncio.Task[None] | None = None
        try:
            while True:
                self.leading = await self._try()
                if task is not None and task.done():
                    log.error("the leader's work failed, this is a defect", exc_info=task.exception())
                    task = None
                if self.leading and task is None:
                    log.info("this replica leads", extra={"fields": {"lease": self._name}})
                    task = asyncio.create_task(work())
                elif not self.leading and task is not None:
                    log.warning("this replica leads no more", extra={"fields": {"lease": self._name}})
                    await _end(task)
                    task = None
                await asyncio.sleep(self._pace.renew * random.uniform(0.8, 1.2))  # noqa: S311  # spread, no secret
        finally:
            if task is not None:
                await _end(task)
            if self.leading:
                self.leading = False
                with contextlib.suppress(ClusterError, TimeoutError):
                    async with asyncio.timeout(_DEADLINE):
                        await self._write(render_spec(self._seen.get("spec") or {}, "", time.time()))

    async def _try(self) -> bool:
        """Whether we lead, after having tried to."""
        try:
            async with asyncio.timeout(_DEADLINE):
                await self._look()
                spec = self._seen.get("spec") or {}
                if spec.get("holderIdentity") != self._identity and not is_free(spec, _now() - self._seen_at):
                    return False
                asked = _now()  # others count from when they see it, which is later
                await self._write(render_spec(spec, self._identity, time.time()))
                self._renewed_at = asked
                self._trouble.forget()
        except (ClusterError, TimeoutError) as problem:
            if isinstance(problem, ClusterError) and problem.status == _CONFLICT:
                return False  # somebody else was faster
            self._trouble.say(str(problem) or "no answer in time", lease=self._name)
            return self.leading and _now() - self._renewed_at < self._pace.give_up
        return True

    async def _look(self) -> None:
        """See the lease, and since when it is what it is."""
        try:
            found = await read_object(self._client, f"{self._collection}/{self._name}", tries=1)
        except ClusterError as problem:
            if problem.status != _NOT_FOUND:
                raise
            document = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": self._name}}
            found = as_object(await request(self._client, "POST", self._collection, document, tries=1))
        if found.get("spec") != self._seen.get("spec"):
            self._seen_at = _now()
        self._seen = found

    async def _write(self, spec: JsonObject) -> None:
        """Replace the lease as we have seen it; conflicts where it has changed since."""
        path = f"{self._collection}/{self._name}"
        query = {"fieldManager": FIELD_MANAGER}
        document = {**self._seen, "spec": spec}
        self._seen = as_object(await request(self._client, "PUT", path, document, query=query, tries=1))
        self._seen_at = _now()


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
