"""Blocking calls beside the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


async def run_in_thread(function: Callable[[], _T]) -> _T:
    """What a blocking function returns, or raises.

    A daemon thread of its own and not `asyncio.to_thread`: the pool's threads are waited for when the program ends, and
    one that is stuck in a slow exchange would hold up SIGTERM. Exchanges are rare, so no pool is kept either.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()

    def settle(result: _T | None, problem: Exception | None) -> None:
        if future.cancelled():
            return
        if problem is not None:
            future.set_exception(problem)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, problem = None, None
        try:
            result = function()
        except Exception as raised:  # noqa: BLE001 - it is raised again where it is awaited
            problem = raised
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, result, problem)

    threading.Thread(target=run, name="exchange", daemon=True).start()
    return await future
