"""Tokens in memory: served while valid, renewed while asked for, one exchange for however many callers.

What is decided here is who waits for what. When a token is renewed, what is tried again and how long a fault is
remembered stands in `schedule`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING, Final

from azwi.entra.faults import EntraFault, unavailable
from azwi.log import logger
from azwi.proxy import schedule
from azwi.proxy.threads import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from azwi.entra.tokens import AccessToken
    from azwi.proxy.metrics import Metrics

    Exchange = Callable[["TokenKey", float], AccessToken | EntraFault]

MAX_TOKENS: Final = 1000  # of 2 KB each, seldom more
MAX_FAULTS: Final = 200  # remembered for seconds
MAX_EXCHANGES: Final = 8  # at the same time, for different tokens
CALLER_SECONDS: Final = 20.0  # how long a caller waits at most: for its turn and an exchange
PATIENCE: Final = 1.0  # how long a caller waits for a new token when the old one is still valid

_log = logger("proxy")


@dataclass(frozen=True, slots=True)
class TokenKey:
    """Which token: the identity, its directory and what it is for."""

    client_id: str
    tenant_id: str
    scope: str


@dataclass(slots=True)
class _Entry:
    """A token, when it is to be renewed on the Unix clock (None for not in the background), and when it was kept.

    The last is of a clock that nobody sets.
    """

    token: AccessToken
    renew_at: float | None
    kept_at: float


@dataclass(frozen=True, slots=True)
class _Hold:
    """A fault, and until when Entra is not asked again: with an older token still valid, and with none.

    Seconds of the monotonic clock.
    """

    fault: EntraFault
    since: float
    until_with_token: float
    until: float


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the cache does not do itself, so that tests need neither wait nor guess.

    `clock` gives seconds of the Unix clock, `monotonic` seconds that never go back, `chance` a number from 0 to 1.
    """

    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    chance: Callable[[], float] = random.random


class TokenCache:
    """Serves tokens from memory, and an older valid one while Entra gives no other. Belongs to one event loop.

    Args:
        exchange: Gets one token within so many seconds; blocks, and is called in a thread.
        metrics: Where hits and exchanges are counted.
        surroundings: Clocks, sleep and chance.
        max_tokens: How many are kept; the one not used for longest goes first.
    """

    def __init__(
        self,
        exchange: Exchange,
        metrics: Metrics,
        surroundings: Surroundings | None = None,
        max_tokens: int = MAX_TOKENS,
    ) -> None:
        self._exchange = exchange
        self._metrics = metrics
        self._around = surroundings or Surroundings()
        self._max_tokens = max_tokens
        self._entries: OrderedDict[TokenKey, _Entry] = OrderedDict()
        self._holds: OrderedDict[TokenKey, _Hold] = OrderedDict()
        self._running: dict[TokenKey, asyncio.Task[AccessToken | EntraFault]] = {}
        self._slots = asyncio.Semaphore(MAX_EXCHANGES)

    def find(self, key: TokenKey) -> AccessToken | None:
        """The token that can be served at once; if it is due, its renewal begins beside."""
        entry = self._entries.get(key)
        now = self._now(entry)
        if entry is None or not schedule.is_fresh(entry.token, now):
            self._metrics.cache_misses += 1
            return None
        self._metrics.cache_hits += 1
        self._entries.move_to_end(key)
        if entry.renew_at is not None and now >= entry.renew_at and self._find_fault(key) is None:
            self._start(key)
        return entry.token

    async def obtain(self, key: TokenKey) -> AccessToken | EntraFault:
        """A new token, or the old one while it is valid and no new one comes soon, or why there is none.

        Callers for the same token share one exchange, which goes on when they leave.
        """
        old = self._find_valid(key)
        if (fault := self._find_fault(key)) is not None:
            return old or fault
        task = self._start(key)
        if old is not None:
            await asyncio.wait([task], timeout=PATIENCE)
        if not task.done() and self._find_valid(key) is None:
            await asyncio.wait([task], timeout=CALLER_SECONDS)
        if not task.done():
            return self._find_valid(key) or unavailable(f"Microsoft Entra gave no token in {CALLER_SECONDS:.0f} s")
        outcome = task.result()
        return self._find_valid(key) or outcome if isinstance(outcome, EntraFault) else outcome

    def seconds_left(self) -> list[tuple[str, str, float]]:
        """Client id and scope of each token in memory, and the seconds that are left of its life, never less than 0."""
        return [
            (key.client_id, key.scope, max(0.0, entry.token.expires_on - self._now(entry)))
            for key, entry in self._entries.items()
        ]

    # --- Exchanges --------------------------------------------------------------------------------------------------

    def _start(self, key: TokenKey) -> asyncio.Task[AccessToken | EntraFault]:
        """The exchange for this token, which may be running already."""
        task = self._running.get(key)
        if task is None:
            task = asyncio.create_task(self._renew(key))
            self._running[key] = task
            task.add_done_callback(lambda done: self._finish(key, done))
        return task

    def _finish(self, key: TokenKey, task: asyncio.Task[AccessToken | EntraFault]) -> None:
        self._running.pop(key, None)
        if not task.cancelled() and (problem := task.exception()) is not None:
            _log.error("a token could not be asked for", exc_info=problem)

    async def _renew(self, key: TokenKey) -> AccessToken | EntraFault:
        outcome = await self._try_until_deadline(key)
        if isinstance(outcome, EntraFault):
            self._hold(key, outcome)
        else:
            self._keep(key, outcome)
        return outcome

    async def _try_until_deadline(self, key: TokenKey) -> AccessToken | EntraFault:
        deadline = self._around.monotonic() + schedule.DEADLINE
        tries = stale = 0
        while True:
            outcome = await self._try(key, deadline)
            tries += 1
            if not isinstance(outcome, EntraFault):
                return outcome
            stale += outcome.stale_assertion
            left = deadline - self._around.monotonic()
            pause = schedule.find_pause(outcome, tries, left, self._around.chance(), stale)
            if pause is None:
                return outcome
            _log.debug("asking Microsoft Entra again", extra={"fields": {**_describe(key, outcome), "pause": pause}})
            await self._around.sleep(pause)

    async def _try(self, key: TokenKey, deadline: float) -> AccessToken | EntraFault:
        async with self._slots:
            begun = self._around.monotonic()
            if deadline <= begun:
                return unavailable("too many tokens are asked for at once")
            try:
                outcome = await run_in_thread(lambda: self._exchange(key, deadline - begun))
            except Exception as problem:  # noqa: BLE001 - no thread, or a defect: who has a token keeps it
                _log.exception("a token could not be asked for")
                outcome = unavailable(f"the exchange failed: {type(problem).__name__}")
        seconds = self._around.monotonic() - begun
        if isinstance(outcome, EntraFault):
            self._metrics.count_exchange(_result(outcome), seconds, outcome.code)
        else:
            self._metrics.count_exchange("token", seconds)
        return outcome

    # --- Memory -----------------------------------------------------------------------------------------------------

    def _keep(self, key: TokenKey, token: AccessToken) -> None:
        self._holds.pop(key, None)
        renew_at = schedule.find_renewal(token, self._around.chance())
        self._entries[key] = _Entry(token, renew_at, self._around.monotonic())
        self._entries.move_to_end(key)
        while len(self._entries) > self._max_tokens:
            self._entries.popitem(last=False)
        _log.info("token obtained", extra={"fields": {"client_id": key.client_id, "scope": key.scope}})

    def _hold(self, key: TokenKey, fault: EntraFault) -> None:
        has_token = self._find_valid(key) is not None
        now = self._around.monotonic()
        chance = self._around.chance()
        with_token, without = (schedule.find_hold(fault, chance, has_token=has) for has in (True, False))
        self._holds[key] = _Hold(fault, now, now + with_token, now + without)
        self._holds.move_to_end(key)
        while len(self._holds) > MAX_FAULTS:
            self._holds.popitem(last=False)
        fields = {**_describe(key, fault), "older_token": has_token}
        _log.warning("no token from Microsoft Entra", extra={"fields": fields})

    def _find_fault(self, key: TokenKey) -> EntraFault | None:
        """The last fault, while Entra is not to be asked again; a wish to wait is what is left of it."""
        hold = self._holds.get(key)
        if hold is None:
            return None
        now = self._around.monotonic()
        if now >= (hold.until if self._find_valid(key) is None else hold.until_with_token):
            return None
        fault = hold.fault
        if fault.retry_after is None:
            return fault
        return replace(fault, retry_after=max(1, ceil(fault.retry_after - (now - hold.since))))

    def _find_valid(self, key: TokenKey) -> AccessToken | None:
        entry = self._entries.get(key)
        return entry.token if entry is not None and schedule.is_valid(entry.token, self._now(entry)) else None

    def _now(self, entry: _Entry | None) -> float:
        """The Unix clock; for a token that is older than it says, since the clock was set back, by its age."""
        now = self._around.clock()
        if entry is None:
            return now
        return max(now, entry.token.obtained_at + self._around.monotonic() - entry.kept_at)


def _result(fault: EntraFault) -> str:
    if fault.local:
        return "not_asked"
    return "throttled" if fault.throttled else "unavailable" if fault.unavailable else "refused"


def _describe(key: TokenKey, fault: EntraFault) -> dict[str, object]:
    """A fault as fields of a log line."""
    return {
        "client_id": key.client_id,
        "scope": key.scope,
        "result": _result(fault),
        "error": fault.error,
        "aadsts": fault.code,
        "correlation_id": fault.correlation_id,
        "description": fault.description,
    }
