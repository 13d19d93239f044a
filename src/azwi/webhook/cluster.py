"""The live cluster behind the webhook: its service accounts, its version, and when all of that is known."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from azwi.cluster.connection import connect, find_source, load_config
from azwi.cluster.serviceaccounts import AccountFeed, read_git_version
from azwi.errors import ClusterError
from azwi.log import logger
from azwi.webhook.live import LiveAccounts

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from azwi.webhook.metrics import Metrics

VERSION_SECONDS: Final = 3600.0  # between two questions for the API server's version (D 12)
_RETRY: Final = 2.0  # seconds
_POLL: Final = 1.0  # seconds

log = logger("webhook")


class Cluster:
    """A cluster that is followed.

    Args:
        kubeconfig: The flag; empty where it is not given.
        environment: The process's variables.

    Raises:
        ConfigurationError: No API server is known, or its settings cannot be used.
    """

    def __init__(self, kubeconfig: str, environment: Mapping[str, str]) -> None:
        source = find_source(kubeconfig, environment, Path.home())
        self._client = connect(load_config(source, environment))
        self.accounts = LiveAccounts(time.monotonic, self._read)
        self.feed = AccountFeed(self._client, self.accounts)
        self._version_known = asyncio.Event()
        log.info("the API server is named", extra={"fields": {"by": source.named_by, "path": source.path}})

    async def _read(self, namespace: str, name: str) -> Any:  # noqa: ANN401  # AccountRecord | None
        return await self.feed.read(namespace, name)

    def age(self) -> float:
        """Seconds since the API server last said anything; 0 before it first did."""
        return asyncio.get_running_loop().time() - self.feed.last_heard if self.feed.last_heard else 0.0

    def report(self, metrics: Metrics) -> None:
        """Tell the metrics how the cluster is followed."""
        metrics.set_feed(self.feed.restarts, self.age(), self.accounts.reads)

    def tasks(
        self, use_version: Callable[[str], None], ready: Callable[[], None]
    ) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        """What is to run beside the server.

        Args:
            use_version: Told the API server's version, also when it changes.
            ready: Called once, when accounts and version are known.
        """

        async def tell_when_ready() -> None:
            await self.feed.synced.wait()
            await self._version_known.wait()
            ready()

        return [self.feed.run, lambda: self._follow_version(use_version), tell_when_ready]

    async def _follow_version(self, use_version: Callable[[str], None]) -> None:
        """Ask for the version, then again hourly and whenever the watch had to begin again."""
        while True:
            restarts = self.feed.restarts
            try:
                use_version(await read_git_version(self._client))
            except ClusterError as problem:
                log.warning("the API server's version is not known", extra={"fields": {"problem": str(problem)}})
                await asyncio.sleep(_RETRY)
                continue
            self._version_known.set()
            asked = time.monotonic()
            while time.monotonic() - asked < VERSION_SECONDS and self.feed.restarts == restarts:  # noqa: ASYNC110
                await asyncio.sleep(_POLL)
            await self.feed.connected.wait()
