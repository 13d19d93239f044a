"""Tokens in memory, and one exchange for however many callers want the same one."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from azwi.entra.faults import EntraFault, unavailable
from azwi.log import logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from azwi.entra.tokens import AccessToken
    from azwi.proxy.metrics import Metrics

MAX_TOKENS: Final = 1000  # of 2 KB each, seldom more
# Seconds of life below which a token is replaced; Entra's SDKs all use five minutes.
FRESH_SECONDS: Final = 300
MAX_EXCHANGES: Final = 8  # at the same time, for different tokens
CALLER_SECONDS: Final = 30.0  # how long a caller waits for one exchange

_T = TypeVar("_T")
_log = logger("proxy")


@dataclass(frozen=True, slots=True)
class TokenKey:
    """Which token: the identity, its directory and what it is for."""

    client_id: str
    tenant_id: str
    scope: str


class TokenCache:
    """Serves tokens from memory while they are fresh, and an older valid one while Entra gives no other.

    Belongs to one event loop. How often a fault is tried again is decided nowhere else than in `_renew`.

    Args:
        exchange: Gets one token; blocks, and is called in a thread.
        clock: Seconds of the Unix clock.
        metrics: Where hits and exchanges are counted.
        max_tokens: How many are kept; the one not used for longest goes first.
    """

    def __init__(
        self,
        exchange: Callable[[TokenKey], AccessToken | EntraFault],
        clock: Callable[[], float],
        metrics: Metrics,
        max_tokens: int = MAX_TOKENS,
    ) -> None:
        self._exchange = exchange
        self._clock = clock
        self._metrics = metrics
        self._max_tokens = max_tokens
        self._tokens: OrderedDict[TokenKey, AccessToken] = OrderedDict()
        self._running: dict[TokenKey, asyncio.Task[AccessToken | EntraFault]] = {}
        self._slots = asyncio.Semaphore(MAX_EXCHANGES)

    def find(self, key: TokenKey) -> AccessToken | None:
        """The token, if memory holds one that is not near its end."""
        token = self._tokens.get(key)
        fresh = token is not None and token.expires_on - self._clock() > FRESH_SECONDS
        self._metrics.count_cache(hit=fresh)
        if not fresh:
            return None
        self._tokens.move_to_end(key)
        return token

    async def obtain(self, key: TokenKey) -> AccessToken | EntraFault:
        """A new token, or the old one while it is valid and there is no new one, or why there is none.

        Callers for the same token share one exchange, which goes on when they leave.
        """
        task = self._running.get(key)
        if task is None:
            task = asyncio.create_task(self._renew(key))
            self._running[key] = task
            task.add_done_callback(lambda _: self._running.pop(key, None))
        try:
            async with asyncio.timeout(CALLER_SECONDS):
                return await asyncio.shield(task)
        except TimeoutError:
            return self._find_valid(key) or unavailable(f"Microsoft Entra gave no token within {CALLER_SECONDS:.0f} s")

    async def _renew(self, key: TokenKey) -> AccessToken | EntraFault:
        async with self._slots:
            outcome = await _run_in_thread(lambda: self._exchange(key))
        if isinstance(outcome, EntraFault):
            self._note_fault(key, outcome)
            return self._find_valid(key) or outcome
        self._metrics.count_exchange("token")
        self._tokens[key] = outcome
        self._tokens.move_to_end(key)
        while len(self._tokens) > self._max_tokens:
            self._tokens.popitem(last=False)
        _log.info("token obtained", extra={"fields": {"client_id": key.client_id, "scope": key.scope}})
        return outcome

    def _find_valid(self, key: TokenKey) -> AccessToken | None:
        token = self._tokens.get(key)
        return token if token is not None and token.expires_on > self._clock() else None

    def _note_fault(self, key: TokenKey, fault: EntraFault) -> None:
        result = "throttled" if fault.throttled else "unavailable" if fault.unavailable else "refused"
        self._metrics.count_exchange(result, fault.code)
        fields = {
            "client_id": key.client_id,
            "scope": key.scope,
            "result": result,
            "error": fault.error,
            "aadsts": fault.code,
            "correlation_id": fault.correlation_id,
            "description": fault.description,
        }
        _log.warning("no token from Microsoft Entra", extra={"fields": fields})


async def _run_in_thread(function: Callable[[], _T]) -> _T:
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
