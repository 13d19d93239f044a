"""A look at all Pods of the cluster, again and again, by the replica that leads: metric and Event, never a deletion."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from azwi.cluster.api import request
from azwi.cluster.events import Subject
from azwi.errors import ClusterError
from azwi.log import logger
from azwi.webhook.findings import REASONS, Finding, RunningPod, judge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx2

    from azwi.webhook.accounts import Accounts

PAGE: Final = 100  # Pods of one answer; some are large

log = logger("webhook")


class Tell(Protocol):
    """Whom a finding is told."""

    def record(self, subject: Subject, reason: str, message: str) -> None:
        """A sentence about an object."""


class _ListMetadata(msgspec.Struct, rename="camel"):
    continue_: str = msgspec.field(name="continue", default="")


class _Page(msgspec.Struct):
    metadata: _ListMetadata
    items: list[RunningPod]


class Survey:
    """Counts what is wrong with the Pods there are.

    Args:
        client: The connection.
        accounts: The service accounts.
        tenant_id: The webhook's.
        interval: Seconds between two looks.
        tell: Whom each finding is told, None for nobody.

    Attributes:
        found: Pods by what is wrong with them, of the last complete look; empty before the first.
    """

    def __init__(
        self,
        client: httpx2.AsyncClient,
        accounts: Accounts,
        tenant_id: str,
        interval: float,
        tell: Tell | None,
    ) -> None:
        self._client = client
        self._accounts = accounts
        self._tenant_id = tenant_id
        self._interval = interval
        self._tell = tell
        self.found: dict[str, int] = {}

    async def run(self) -> None:
        """Look until cancelled; the first time at once. Whoever no longer leads has found nothing."""
        try:
            while True:
                try:
                    await self._look()
                except ClusterError as problem:
                    log.warning("the Pods cannot be looked at", extra={"fields": {"problem": str(problem)}})
                await asyncio.sleep(self._interval)
        finally:
            self.found = {}

    async def _look(self) -> None:
        counts: Counter[str] = Counter()
        async for pod in self._pods():
            name = pod.spec.service_account_name or "default"
            finding = judge(pod, self._accounts.find(pod.metadata.namespace, name), self._tenant_id)
            if finding is not None:
                counts[finding.reason] += 1
                self._report(pod, finding)
        self.found = {reason: counts[reason] for reason in REASONS}
        log.info("Pods looked at", extra={"fields": self.found})

    def _report(self, pod: RunningPod, finding: Finding) -> None:
        if self._tell is None:
            return
        metadata, owner = pod.metadata, pod.owner
        if owner is not None:
            subject = Subject(owner.api_version, owner.kind, metadata.namespace, owner.name, owner.uid)
        else:
            subject = Subject("v1", "Pod", metadata.namespace, metadata.name, metadata.uid)
        self._tell.record(subject, finding.reason, finding.message)

    async def _pods(self) -> AsyncIterator[RunningPod]:
        """All Pods, page by page."""
        token = ""
        while True:
            query = {"limit": str(PAGE)} | ({"continue": token} if token else {})
            content = await request(self._client, "GET", "/api/v1/pods", query=query)
            try:
                page = msgspec.json.decode(content, type=_Page)
            except msgspec.MsgspecError as problem:
                raise ClusterError(f"the API server listed Pods that cannot be read: {problem}") from problem
            for pod in page.items:
                yield pod
            token = page.metadata.continue_
            if not token:
                return
