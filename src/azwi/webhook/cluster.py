"""The live cluster behind the webhook: what of it is followed, what is kept in order there, and when all is known."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from azwi.admission.settings import NativeSidecar
from azwi.cluster.connection import connect, find_source, load_config
from azwi.cluster.leases import Election
from azwi.cluster.retries import delay_after, passes_by_itself
from azwi.cluster.serviceaccounts import follow_accounts, read_account, read_git_version
from azwi.errors import ClusterError
from azwi.log import logger
from azwi.webhook.certificates.own import OwnCertificates
from azwi.webhook.events import EventRecorder
from azwi.webhook.live import LiveAccounts
from azwi.webhook.survey import Survey

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    import httpx2

    from azwi.webhook.metrics import Metrics
    from azwi.webhook.settings import WebhookSettings

VERSION_SECONDS: Final = 3600.0  # between two questions for the API server's version (D 12)
_POLL: Final = 1.0  # seconds
_READY_POLL: Final = 0.05  # seconds
_PATIENCE: Final = 10.0  # seconds until a wait is worth a line

log = logger("webhook")


class Cluster:
    """A cluster that is followed.

    Args:
        settings: The webhook's.
        environment: The process's variables.

    Attributes:
        accounts: Its service accounts.
        certificates: Those of our own; None where they are somebody else's.
        events: Where warnings are told; None for nowhere.

    Raises:
        ConfigurationError: No API server is known, or its settings cannot be used.
    """

    def __init__(self, settings: WebhookSettings, environment: Mapping[str, str]) -> None:
        source = find_source(settings.kubeconfig, environment, Path.home())
        client = connect(load_config(source, environment))
        log.info("the API server is named", extra={"fields": {"by": source.named_by, "path": source.path}})
        self._client = client
        self.accounts = LiveAccounts(time.monotonic, lambda namespace, name: read_account(client, namespace, name))
        self._feed = follow_accounts(client, self.accounts)
        self._asks_version = settings.native_sidecar is NativeSidecar.AUTO
        self._version_known = asyncio.Event()
        self.certificates = _own_certificates(client, settings)
        self.events = EventRecorder(client, settings.replica) if settings.events else None
        self._survey: Survey | None = None
        if settings.pod_check_interval:
            tenant_id, interval = settings.admission.tenant_id, settings.pod_check_interval
            self._survey = Survey(client, self.accounts, tenant_id, interval, self.events)
        # A container that was started anew must not take itself for the one that was killed.
        identity = f"{settings.replica}_{uuid.uuid4().hex[:8]}"
        self._election = Election(client, settings.namespace, settings.lease, identity)

    def report(self, metrics: Metrics) -> None:
        """Tell the metrics how the cluster is followed."""
        heard = self._feed.last_heard
        age = asyncio.get_running_loop().time() - heard if heard else 0.0
        metrics.set_feed(self._feed.restarts, age, self.accounts.reads)
        if self.certificates is not None:
            metrics.set_bundle_writes(self.certificates.writes)
        if self.events is not None:
            metrics.set_events(self.events.counts)
        metrics.set_leading(self._election.leading, self._survey.found if self._survey is not None else {})

    def tasks(
        self, use_version: Callable[[str], None], ready: Callable[[], None]
    ) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        """What is to run beside the server.

        Args:
            use_version: Told the API server's version, also when it changes.
            ready: Called once, when accounts and version are known and API servers trust what is served (D 22).
        """

        async def tell_when_ready() -> None:
            begun = last = time.monotonic()
            while missing := self._missing():
                await asyncio.sleep(_READY_POLL)
                if time.monotonic() - last >= _PATIENCE:
                    last = time.monotonic()
                    fields = {"after": round(last - begun), "missing": missing}
                    log.warning("webhook is not ready yet", extra={"fields": fields})
            ready()

        tasks = [self._feed.run, tell_when_ready]
        if self._asks_version:
            tasks.append(lambda: self._follow_version(use_version))
        if self.certificates is not None:
            tasks += self.certificates.tasks()
        if self.events is not None:
            tasks.append(self.events.run)
        if self.certificates is not None or self._survey is not None:
            tasks.append(lambda: self._election.run(self._lead))
        return tasks

    def _missing(self) -> str:
        """What is not there yet, in words; empty where all is known."""
        if not self._feed.synced.is_set():
            return "the list of service accounts"
        if self._asks_version and not self._version_known.is_set():
            return "the API server's version"
        return self.certificates.missing() if self.certificates is not None else ""

    async def _lead(self) -> None:
        """What one replica does for all."""
        async with asyncio.TaskGroup() as group:
            if self.certificates is not None:
                group.create_task(self.certificates.lead())
            if self._survey is not None:
                await self._feed.synced.wait()
                group.create_task(self._survey.run())

    async def _follow_version(self, use_version: Callable[[str], None]) -> None:
        """Ask for the version, then again hourly and whenever the watch had to begin again."""
        failures = 0
        while True:
            restarts = self._feed.restarts
            try:
                use_version(await read_git_version(self._client))
            except ClusterError as problem:
                log.warning("the API server's version is not known", extra={"fields": {"problem": str(problem)}})
                if passes_by_itself(problem.status):
                    failures += 1
                    await asyncio.sleep(delay_after(failures, random.random()))  # noqa: S311  # spread, no secret
                    continue
                use_version("")
            failures = 0
            self._version_known.set()
            asked = time.monotonic()
            while time.monotonic() - asked < VERSION_SECONDS and self._feed.restarts == restarts:  # noqa: ASYNC110
                await asyncio.sleep(_POLL)
            await self._feed.connected.wait()


def _own_certificates(client: httpx2.AsyncClient, settings: WebhookSettings) -> OwnCertificates | None:
    own = settings.own
    if own is None:
        return None
    return OwnCertificates(
        client, settings.namespace, own.secret, own.configuration, own.hosts, settings.tls_min_version
    )
