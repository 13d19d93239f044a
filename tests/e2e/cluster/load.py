"""Pods created at a rate, by several at once, and what became of each."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx2

from azwi.contract import VOLUME_NAME
from conftest import pod

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kube import Cluster


class PodLoad:
    """Creates Pods until it is told to stop.

    Args:
        cluster: Where.
        namespace: In which namespace; its service account `orders` has an identity.
        rate: Pods a second; 0 for as many as the API server takes.
        workers: How many at once.
        headers: Of each request.
    """

    def __init__(self, cluster: Cluster, namespace: str, rate: float, workers: int = 8) -> None:
        self._cluster = cluster
        self._path = f"/api/v1/namespaces/{namespace}/pods"
        self._rate = rate
        self._workers = workers
        self._over = threading.Event()
        self._next = 0
        self.injected = 0
        self.failures: list[str] = []
        self.latencies: list[float] = []  # seconds of each creation

    def run(self) -> None:
        """Create until stopped."""
        asyncio.run(self._run())

    def stop(self) -> None:
        """No more."""
        self._over.set()

    async def _run(self) -> None:
        async with self._cluster.http(self._workers) as client:
            await asyncio.gather(*(self._work(client) for _ in range(self._workers)))

    async def _work(self, client: httpx2.AsyncClient) -> None:
        begun = time.monotonic()
        while not self._over.is_set():
            number = self._next
            self._next += 1
            if self._rate:
                await asyncio.sleep(max(0.0, begun + number / self._rate - time.monotonic()))
            await self._create(client, number)

    async def _create(self, client: httpx2.AsyncClient, number: int) -> None:
        started = time.monotonic()
        try:
            answer = await client.post(self._path, json=pod(f"load-{number}", "orders"))
        except httpx2.HTTPError as problem:
            self.failures.append(repr(problem))
            return
        self.latencies.append(time.monotonic() - started)
        made: dict[str, Any] = answer.json()
        if not answer.is_success:
            self.failures.append(str(made.get("message")))
        elif any(volume["name"] == VOLUME_NAME for volume in made["spec"].get("volumes", [])):
            self.injected += 1
        else:
            self.failures.append("not injected")


@contextlib.contextmanager
def pod_load(cluster: Cluster, namespace: str, rate: float, workers: int = 8) -> Iterator[PodLoad]:
    """A load beside what happens inside."""
    load = PodLoad(cluster, namespace, rate, workers)
    thread = threading.Thread(target=load.run)
    thread.start()
    try:
        yield load
    finally:
        load.stop()
        thread.join()
