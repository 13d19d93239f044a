"""Warnings as Events, for those who do not see kubectl's output (D 7): once per object and reason, and not too many."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from azwi.cluster.api import read_object, segment
from azwi.cluster.events import Subject, render_event, write_event
from azwi.errors import ClusterError
from azwi.log import logger
from azwi.webhook.limiter import Limiter

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx2

    from azwi.webhook.mutation import Answer

RATE: Final = 1.0  # Events a second, on average
BURST: Final = 25
REMEMBERED: Final = 4096  # objects and reasons; the oldest are forgotten
_WAITING: Final = 256  # Events that wait to be written; more are dropped

WRITTEN: Final = "written"
DROPPED: Final = "dropped"
FAILED: Final = "failed"

log = logger("webhook")


class EventRecorder:
    """Writes Events beside the reviews, never in their way.

    Args:
        client: The connection.
        reporter: This replica's name.
        clock: Seconds that only grow.
    """

    def __init__(self, client: httpx2.AsyncClient, reporter: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._reporter = reporter
        self._limiter = Limiter(clock, RATE, BURST)
        self._told: dict[tuple[Subject, str], None] = {}
        self._queue: asyncio.Queue[tuple[Subject, str, str]] = asyncio.Queue(_WAITING)
        self.counts: dict[str, int] = {}  # by what became of them: written, dropped, failed

    def record(self, subject: Subject, reason: str, message: str) -> None:
        """Say something about an object, unless it was said before or there is too much to say.

        Args:
            subject: The object.
            reason: A stable word, such as `no-client-id`.
            message: A sentence.
        """
        key = (subject, reason)
        if key in self._told:
            return
        if self._queue.full() or self._limiter.take():
            self._count(DROPPED)
            return
        self._told[key] = None
        if len(self._told) > REMEMBERED:
            del self._told[next(iter(self._told))]
        self._queue.put_nowait((subject, camel(reason), message))

    def record_warnings(self, answer: Answer) -> None:
        """Say what a Pod was warned about, of its owner, or of its service account where it has none."""
        if answer.dry_run:
            return
        namespace, name = answer.account
        owner = answer.owner
        if owner is None:
            subject = Subject("v1", "ServiceAccount", namespace, name)
        else:
            subject = Subject(owner.api_version, owner.kind, namespace, owner.name, owner.uid)
        for warning in answer.warnings:
            self.record(subject, warning.reason, warning.text)

    async def run(self) -> None:
        """Write what is recorded until cancelled; what cannot be written is counted, and logged at debug level."""
        while True:
            subject, reason, message = await self._queue.get()
            try:
                whole = await self._with_uid(subject)
                await write_event(self._client, render_event(whole, reason, message, self._reporter, time.time()))
            except ClusterError as problem:
                self._count(FAILED)
                log.debug("Event not written", extra={"fields": {"reason": reason, "problem": str(problem)}})
            except Exception:
                self._count(FAILED)
                log.exception("Event not written, this is a defect")
            else:
                self._count(WRITTEN)

    async def _with_uid(self, subject: Subject) -> Subject:
        """The subject with its uid, by which `kubectl describe` finds Events; only service accounts come without."""
        if subject.uid or subject.kind != "ServiceAccount":
            return subject
        path = f"/api/v1/namespaces/{segment(subject.namespace)}/serviceaccounts/{segment(subject.name)}"
        metadata = (await read_object(self._client, path)).get("metadata") or {}
        return Subject(subject.api_version, subject.kind, subject.namespace, subject.name, str(metadata.get("uid", "")))

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1


def camel(reason: str) -> str:
    """A reason as Events have it: `no-client-id` is `NoClientId`."""
    return "".join(word.capitalize() for word in reason.split("-"))
