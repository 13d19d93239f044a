"""Tokens in memory, and one exchange for many callers."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from azwi.entra.faults import EntraFault, unavailable
from azwi.entra.tokens import AccessToken
from azwi.proxy.cache import TokenCache, TokenKey
from azwi.proxy.metrics import Metrics

if TYPE_CHECKING:
    import pytest

KEY = TokenKey("c", "t", "s")


class Entra:
    """Counts exchanges and gives what it is told; waits at the gate first."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.asked: list[TokenKey] = []
        self.fault: EntraFault | None = None
        self.gate = threading.Event()
        self.gate.set()

    def exchange(self, key: TokenKey) -> AccessToken | EntraFault:
        """One token of an hour, or the fault."""
        self.asked.append(key)
        assert self.gate.wait(5)
        if self.fault is not None:
            return self.fault
        now = int(self.now)
        return AccessToken(f"token-{len(self.asked)}", now, now + 3600, now, now + 3600)

    def cache(self, max_tokens: int = 10) -> TokenCache:
        """A cache before it."""
        return TokenCache(self.exchange, lambda: self.now, Metrics(), max_tokens)


def test_a_token_is_served_from_memory_until_near_its_end() -> None:
    """With more than five minutes left there is no exchange, with less there is a new token."""

    async def run() -> None:
        entra = Entra()
        cache = entra.cache()
        assert cache.find(KEY) is None
        first = await cache.obtain(KEY)
        entra.now += 3299
        assert cache.find(KEY) is first
        entra.now += 1
        assert cache.find(KEY) is None
        second = await cache.obtain(KEY)
        assert cache.find(KEY) is second
        assert len(entra.asked) == 2

    asyncio.run(run())


def test_fifty_callers_make_one_exchange() -> None:
    """Whoever asks while an exchange runs gets its token."""

    async def run() -> None:
        entra = Entra()
        cache = entra.cache()
        outcomes = await asyncio.gather(*(cache.obtain(KEY) for _ in range(50)))
        assert len(entra.asked) == 1
        assert {"token-1"} == {token.secret for token in outcomes if isinstance(token, AccessToken)}

    asyncio.run(run())


def test_the_exchange_outlives_its_first_caller() -> None:
    """A caller that goes away takes nobody else's token along."""

    async def run() -> None:
        entra = Entra()
        entra.gate.clear()
        cache = entra.cache()
        first = asyncio.create_task(cache.obtain(KEY))
        second = asyncio.create_task(cache.obtain(KEY))
        await asyncio.sleep(0.01)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        entra.gate.set()
        assert isinstance(await second, AccessToken)
        assert len(entra.asked) == 1

    asyncio.run(run())


def test_a_valid_token_is_served_while_entra_fails() -> None:
    """An old token is better than none, until it ends; then the caller learns why there is none."""

    async def run() -> None:
        entra = Entra()
        cache = entra.cache()
        old = await cache.obtain(KEY)
        entra.fault = unavailable("down")
        entra.now += 3599
        assert cache.find(KEY) is None
        assert await cache.obtain(KEY) is old
        entra.now += 1
        assert await cache.obtain(KEY) is entra.fault

    asyncio.run(run())


def test_tokens_are_told_apart() -> None:
    """Another identity, directory or scope is another token."""

    async def run() -> None:
        entra = Entra()
        cache = entra.cache()
        keys = [KEY, TokenKey("d", "t", "s"), TokenKey("c", "u", "s"), TokenKey("c", "t", "v")]
        tokens = [await cache.obtain(key) for key in keys]
        assert [cache.find(key) for key in keys] == tokens
        assert len({id(token) for token in tokens}) == 4

    asyncio.run(run())


def test_memory_is_bounded() -> None:
    """The token that was not used for longest goes first."""

    async def run() -> None:
        cache = Entra().cache(max_tokens=2)
        keys = [TokenKey("c", "t", str(number)) for number in range(3)]
        await cache.obtain(keys[0])
        await cache.obtain(keys[1])
        assert cache.find(keys[0]) is not None
        await cache.obtain(keys[2])
        assert [True, False, True] == [cache.find(key) is not None for key in keys]

    asyncio.run(run())


def test_a_defect_reaches_its_callers_and_is_forgotten() -> None:
    """What an exchange raises is raised to who waits for it; the next caller starts anew."""

    async def run() -> None:
        entra = Entra()
        broken = [True]

        def exchange(key: TokenKey) -> AccessToken | EntraFault:
            if broken:
                raise RuntimeError(broken.pop())
            return entra.exchange(key)

        cache = TokenCache(exchange, lambda: entra.now, Metrics())
        outcomes = await asyncio.gather(cache.obtain(KEY), cache.obtain(KEY), return_exceptions=True)
        assert all(isinstance(outcome, RuntimeError) for outcome in outcomes)
        assert isinstance(await cache.obtain(KEY), AccessToken)

    asyncio.run(run())


def test_a_fault_is_logged_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    """The log says which identity, scope and number; the counter has the number, too."""

    async def run() -> Metrics:
        entra = Entra()
        entra.fault = EntraFault("invalid_client", "AADSTS70021: no", 70021, "c-1")
        metrics = Metrics()
        await TokenCache(entra.exchange, lambda: 0.0, metrics).obtain(KEY)
        return metrics

    metrics = asyncio.run(run())
    fields = caplog.records[0].__dict__["fields"]
    assert (70021, "c-1", "refused") == (fields["aadsts"], fields["correlation_id"], fields["result"])
    assert b'azwi_proxy_exchanges_total{result="refused",code="AADSTS70021"} 1' in metrics.render()
