"""A port that forwards TCP connections: to a webhook among several, as a Service does, or over a line to cut."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kube import Cluster

    from conftest import Webhook

LOOK = 1.0  # seconds after which a Service knows which of its Pods are ready


class Relay:
    """Forwards connections to the address that `choose` gives; None takes none. Open ones stay where they are."""

    def __init__(self, choose: Callable[[], tuple[str, int] | None]) -> None:
        self._choose = choose
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self.port = 0

    def cut(self) -> None:
        """Break all connections that are open."""
        self._loop.call_soon_threadsafe(self._abort)

    def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    @contextlib.contextmanager
    def running(self, port: int = 0) -> Iterator[Relay]:
        """Forward in a thread of its own."""
        started = threading.Event()
        thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve(port, started)))
        thread.start()
        started.wait(10)
        try:
            yield self
        finally:
            self.cut()
            self._loop.call_soon_threadsafe(self._over.set)
            thread.join()
            self._loop.close()

    async def _serve(self, port: int, started: threading.Event) -> None:
        server = await asyncio.start_server(self._forward, "127.0.0.1", port)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await self._over.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=5)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = self._choose()
        if address is None:
            writer.close()
            return
        try:
            there_reader, there_writer = await asyncio.open_connection(*address)
        except OSError:
            writer.close()
            return
        pair = {writer, there_writer}
        self._writers |= pair
        await asyncio.gather(_copy(reader, there_writer), _copy(there_reader, writer))
        self._writers -= pair


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


class Service:
    """Chooses ready webhooks in turn, and knows of their readiness with a delay."""

    def __init__(self) -> None:
        self._webhooks: list[Webhook] = []
        self._ready: list[int] = []
        self._turn = 0
        self._over = threading.Event()

    def add(self, webhook: Webhook) -> None:
        """One more replica."""
        self._webhooks.append(webhook)
        self.look()

    def choose(self) -> tuple[str, int] | None:
        """The next one's address."""
        self._turn += 1
        return ("127.0.0.1", self._ready[self._turn % len(self._ready)]) if self._ready else None

    def look(self) -> None:
        """See which are ready."""
        self._ready = [webhook.port for webhook in list(self._webhooks) if webhook.is_ready()]

    def follow(self) -> None:
        """Look again and again."""
        while not self._over.wait(LOOK):
            self.look()

    def stop(self) -> None:
        """No more."""
        self._over.set()


@contextlib.contextmanager
def service(port: int) -> Iterator[Service]:
    """A Service on a port of loopback."""
    chosen = Service()
    with Relay(chosen.choose).running(port):
        thread = threading.Thread(target=chosen.follow)
        thread.start()
        try:
            yield chosen
        finally:
            chosen.stop()
            thread.join()


class Line:
    """A way to the API server that can be cut and mended; `kubeconfig` leads there."""

    def __init__(self, relay: Relay, whole: threading.Event, kubeconfig: Path) -> None:
        self._relay = relay
        self._whole = whole
        self.kubeconfig = kubeconfig

    def cut(self) -> None:
        """Every connection breaks, and none is taken."""
        self._whole.clear()
        time.sleep(0.05)
        self._relay.cut()

    def mend(self) -> None:
        """As before."""
        self._whole.set()


@contextlib.contextmanager
def line(cluster: Cluster, folder: Path) -> Iterator[Line]:
    """A line to the API server of a cluster."""
    whole = threading.Event()
    whole.set()
    url = urlsplit(cluster.url)
    address = (url.hostname or "", url.port or 443)
    with Relay(lambda: address if whole.is_set() else None).running() as relay:
        document = yaml.safe_load(cluster.kubeconfig.read_text())
        entry = document["clusters"][0]["cluster"]
        entry["server"] = f"https://127.0.0.1:{relay.port}"
        path = folder / "line.kubeconfig"
        path.write_text(yaml.safe_dump(document))
        yield Line(relay, whole, path)
