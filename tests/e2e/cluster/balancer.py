"""What a Service is to API servers: one address, connections to any replica that is ready, known with a delay.

kube-proxy forwards connections; open ones stay where they are. So does this.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Webhook


class Balancer:
    """Forwards TCP connections to ready webhooks in turn; looks at their readiness every `interval` seconds."""

    def __init__(self, port: int, interval: float = 1.0) -> None:
        self._port = port
        self._interval = interval
        self._webhooks: list[Webhook] = []
        self._ready: list[Webhook] = []
        self._turn = 0

    def add(self, webhook: Webhook) -> None:
        """One more replica; connections go there once it is ready."""
        self._webhooks.append(webhook)

    async def run(self, started: Callable[[], None]) -> None:
        """Forward until cancelled."""
        server = await asyncio.start_server(self._forward, "127.0.0.1", self._port)
        async with server:
            started()
            while True:
                ready = [webhook for webhook in list(self._webhooks) if await asyncio.to_thread(webhook.is_ready)]
                self._ready = ready or self._ready
                await asyncio.sleep(self._interval)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            if self._ready:
                self._turn += 1
                port = self._ready[self._turn % len(self._ready)].port
                there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
                await asyncio.gather(_copy(reader, there_writer), _copy(there_reader, writer))
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()


@contextlib.contextmanager
def balancing(port: int) -> Iterator[Balancer]:
    """A balancer in a thread of its own."""
    balancer = Balancer(port)
    started = threading.Event()
    loop = asyncio.new_event_loop()
    task = loop.create_task(balancer.run(started.set))

    def run() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
        for left in asyncio.all_tasks(loop):
            left.cancel()
        loop.run_until_complete(asyncio.sleep(0.1))
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    started.wait(10)
    try:
        yield balancer
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
