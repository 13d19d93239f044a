"""Tokens in memory: who waits for what, what is renewed beside, and what Entra is spared."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from azwi.entra.faults import EntraFault, unavailable
from azwi.entra.tokens import AccessToken
from azwi.proxy import cache as cache_module
from azwi.proxy.cache import MAX_FAULTS, Surroundings, TokenCache, TokenKey
from azwi.proxy.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

KEY = TokenKey("c", "t", "s")
REFUSED = EntraFault("invalid_client", "AADSTS700016: no", 700016, "c-1", status=400)
PROPAGATING = EntraFault("invalid_client", "AADSTS70021: no", 70021, status=400)
STALE = EntraFault("invalid_client", "AADSTS700024: late", 700024, status=401)
LOCAL = EntraFault("invalid_client", "the file is empty", local=True)
DOWN = unavailable("down", status=503)


def throttled(seconds: int) -> EntraFault:
    """A 429 with Retry-After."""
    return EntraFault("temporarily_unavailable", "slow down", 90055, status=429, retry_after=seconds)


@dataclass
class Entra:
    """Gives the next of `faults`, then tokens of `life` seconds; waits let its own time pass, not the real one."""

    now: float = 1000.0
    life: int = 3600
    refresh_in: int | None = None
    faults: list[EntraFault] = field(default_factory=list)
    fault: EntraFault | None = None  # for ever
    asked: list[TokenKey] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def exchange(self, key: TokenKey, _seconds: float) -> AccessToken | EntraFault:
        """One token, or a fault."""
        self.asked.append(key)
        assert self.gate.wait(5)
        if self.faults:
            return self.faults.pop(0)
        if self.fault is not None:
            return self.fault
        now = int(self.now)
        wish = None if self.refresh_in is None else now + self.refresh_in
        return AccessToken(f"token-{len(self.asked)}", now, now + self.life, now, now + self.life, wish)

    async def sleep(self, seconds: float) -> None:
        """Let the time pass."""
        self.pauses.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)

    def cache(self, max_tokens: int = 10, metrics: Metrics | None = None) -> TokenCache:
        """A cache before it."""
        around = Surroundings(lambda: self.now, lambda: self.now, self.sleep, lambda: 0.5)
        return TokenCache(self.exchange, metrics or Metrics(), around, max_tokens)


def in_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test in an event loop."""

    def run() -> None:
        asyncio.run(test())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


async def settle(entra: Entra, exchanges: int) -> None:
    """Wait until so many exchanges have begun, and what they gave is kept."""
    for _ in range(1000):
        if len(entra.asked) >= exchanges:
            break
        await asyncio.sleep(0.001)
    assert exchanges == len(entra.asked)
    await asyncio.sleep(0.02)


# --- Renewal ------------------------------------------------------------------------------------------------


@in_loop
async def test_a_token_is_renewed_beside_after_half_of_its_life() -> None:
    """Until then nothing is asked; then callers get the old one at once, and the next ones the new."""
    entra = Entra()
    cache = entra.cache()
    assert cache.find(KEY) is None
    first = await cache.obtain(KEY)
    entra.now += 1709  # half of an hour, a little earlier by chance
    assert cache.find(KEY) is first
    await settle(entra, 1)
    entra.now += 1
    assert [first] * 3 == [cache.find(KEY) for _ in range(3)]
    await settle(entra, 2)
    second = cache.find(KEY)
    assert isinstance(second, AccessToken)
    assert second.secret == "token-2"  # noqa: S105


@in_loop
async def test_entra_may_wish_a_renewal_earlier() -> None:
    """refresh_in counts from when the token came."""
    entra = Entra(life=86400, refresh_in=1000)
    cache = entra.cache()
    await cache.obtain(KEY)
    entra.now += 951
    assert cache.find(KEY) is not None
    await settle(entra, 2)


@in_loop
async def test_a_token_that_nobody_asks_for_is_not_renewed() -> None:
    """There is no timer: an identity that is not used costs Entra nothing."""
    entra = Entra()
    cache = entra.cache()
    await cache.obtain(KEY)
    entra.now += 3000
    await settle(entra, 1)


@in_loop
async def test_a_short_lived_token_is_not_renewed_beside() -> None:
    """It is served for half of its life, then a caller waits for another."""
    entra = Entra(life=200)
    cache = entra.cache()
    first = await cache.obtain(KEY)
    entra.now += 99
    assert cache.find(KEY) is first
    entra.now += 1
    assert cache.find(KEY) is None
    await settle(entra, 1)
    assert await cache.obtain(KEY) is not first


@in_loop
async def test_a_valid_token_is_served_while_renewal_fails() -> None:
    """Until its last second, and Entra is asked once in a while only; then the caller learns why there is none."""
    entra = Entra()
    cache = entra.cache()
    old = await cache.obtain(KEY)
    entra.fault = DOWN
    entra.now += 1800
    assert cache.find(KEY) is old
    await settle(entra, 5)  # with its tries
    assert [old] * 5 == [cache.find(KEY) for _ in range(5)]
    await settle(entra, 5)
    entra.now += 31
    assert cache.find(KEY) is old
    await settle(entra, 9)
    entra.now = 1000 + 3590
    assert cache.find(KEY) is None
    assert await cache.obtain(KEY) is old
    entra.now = 1000 + 3600 + 3
    outcome = await cache.obtain(KEY)
    assert isinstance(outcome, EntraFault)
    assert outcome.unavailable


@in_loop
async def test_near_its_end_a_slow_entra_holds_nobody_up() -> None:
    """A caller waits a moment for the new token, then gets the old one, which is still valid."""
    entra = Entra()
    cache = entra.cache()
    old = await cache.obtain(KEY)
    entra.now += 3400
    entra.gate.clear()
    begun = asyncio.get_running_loop().time()
    assert await cache.obtain(KEY) is old
    assert asyncio.get_running_loop().time() - begun < cache_module.PATIENCE + 1
    entra.gate.set()
    await settle(entra, 2)
    assert cache.find(KEY) is not old


# --- One exchange for many ----------------------------------------------------------------------------------


@in_loop
async def test_fifty_callers_make_one_exchange() -> None:
    """Whoever asks while an exchange runs gets its token."""
    entra = Entra()
    cache = entra.cache()
    outcomes = await asyncio.gather(*(cache.obtain(KEY) for _ in range(50)))
    assert len(entra.asked) == 1
    assert {"token-1"} == {token.secret for token in outcomes if isinstance(token, AccessToken)}


@in_loop
async def test_the_exchange_outlives_its_first_caller() -> None:
    """A caller that goes away takes nobody else's token along."""
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


@in_loop
async def test_tokens_are_told_apart() -> None:
    """Another identity, directory or scope is another token."""
    cache = Entra().cache()
    keys = [KEY, TokenKey("d", "t", "s"), TokenKey("c", "u", "s"), TokenKey("c", "t", "v")]
    tokens = [await cache.obtain(key) for key in keys]
    assert [cache.find(key) for key in keys] == tokens
    assert len({id(token) for token in tokens}) == 4


@in_loop
async def test_a_defect_is_an_unavailable_entra() -> None:
    """What an exchange raises costs nobody a valid token, and is held like any other fault."""
    entra = Entra()
    broken: list[bool] = []

    def exchange(key: TokenKey, seconds: float) -> AccessToken | EntraFault:
        if broken:
            raise RuntimeError(broken[0])
        return entra.exchange(key, seconds)

    around = Surroundings(lambda: entra.now, lambda: entra.now, entra.sleep, lambda: 0.5)
    cache = TokenCache(exchange, Metrics(), around)
    token = await cache.obtain(KEY)
    broken.append(True)
    assert isinstance(token, AccessToken)
    entra.now = token.expires_on - 100
    assert token == await cache.obtain(KEY)
    entra.now = token.expires_on + 10
    outcomes = await asyncio.gather(cache.obtain(KEY), cache.obtain(KEY))
    assert all(isinstance(outcome, EntraFault) and outcome.unavailable for outcome in outcomes)
    broken.clear()
    assert isinstance(await cache.obtain(KEY), EntraFault)
    entra.now += 60
    assert isinstance(await cache.obtain(KEY), AccessToken)


@in_loop
async def test_a_clock_that_is_set_back_makes_no_token_younger() -> None:
    """It was two hours ahead; an hour later the token of an hour is over, whatever the clock says."""
    entra = Entra(life=3600)
    ahead = [7200.0]
    around = Surroundings(lambda: entra.now + ahead[0], lambda: entra.now, entra.sleep, lambda: 0.5)
    cache = TokenCache(entra.exchange, Metrics(), around)
    entra.now += 7200  # the token is made by the clock that is ahead
    first = await cache.obtain(KEY)
    entra.now -= 7200
    entra.now += 7200
    ahead[0] = 0.0
    assert cache.find(KEY) == first
    entra.now += 3700
    assert cache.find(KEY) is None
    assert isinstance(await cache.obtain(KEY), AccessToken)
    assert 2 == len(entra.asked)


# --- Trying again -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("faults", "asked", "pauses"),
    [
        ([PROPAGATING], 2, [0.3]),
        ([DOWN, PROPAGATING], 3, [0.3, 0.9]),
        ([DOWN] * 3, 4, [0.3, 0.9, 2.7]),
        ([throttled(2)], 2, [2.125]),
        ([STALE], 2, [0.0]),
    ],
)
def test_what_passes_by_itself_is_tried_again(faults: list[EntraFault], asked: int, pauses: list[float]) -> None:
    """The caller gets the token, and Entra the time that it asked for."""

    async def run() -> None:
        entra = Entra(faults=list(faults))
        assert isinstance(await entra.cache().obtain(KEY), AccessToken)
        assert asked == len(entra.asked)
        assert entra.pauses == pytest.approx(pauses)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("fault", "asked"), [(REFUSED, 1), (LOCAL, 1), (STALE, 2), (PROPAGATING, 4), (DOWN, 4), (throttled(60), 1)]
)
def test_tries_are_bounded(fault: EntraFault, asked: int) -> None:
    """What does not pass is not tried again, what may pass a few times, and nothing beyond the deadline."""

    async def run() -> None:
        entra = Entra(fault=fault)
        assert fault == await entra.cache().obtain(KEY)
        assert asked == len(entra.asked)
        assert entra.now - 1000 < 15

    asyncio.run(run())


# --- Faults in memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "held"), [(REFUSED, 3), (DOWN, 3), (LOCAL, 0), (throttled(20), 20), (throttled(3600), 30)]
)
def test_a_fault_is_remembered_for_seconds(fault: EntraFault, held: float) -> None:
    """Meanwhile Entra is spared; a file that was missing is looked for at once."""

    async def run() -> None:
        entra = Entra(fault=fault)
        cache = entra.cache()
        await cache.obtain(KEY)
        asked = len(entra.asked)
        entra.now += max(0, held - 0.1)
        if held:
            outcome = await cache.obtain(KEY)
            assert isinstance(outcome, EntraFault)
            assert fault.code == outcome.code
        assert asked == len(entra.asked)
        entra.now += 0.2
        entra.fault = None
        assert isinstance(await cache.obtain(KEY), AccessToken)

    asyncio.run(run())


@in_loop
async def test_the_wish_to_wait_gets_shorter() -> None:
    """Retry-After is passed on as what is left of it."""
    entra = Entra(fault=throttled(60))
    cache = entra.cache()
    await cache.obtain(KEY)
    entra.now += 19.5
    outcome = await cache.obtain(KEY)
    assert isinstance(outcome, EntraFault)
    assert outcome.retry_after == 41


# --- Bounds and what is told ---------------------------------------------------------------------------------


@in_loop
async def test_memory_is_bounded() -> None:
    """The token that was not used for longest goes first, and of faults only so many are remembered."""
    entra = Entra()
    cache = entra.cache(max_tokens=2)
    keys = [TokenKey("c", "t", str(number)) for number in range(3)]
    await cache.obtain(keys[0])
    await cache.obtain(keys[1])
    assert cache.find(keys[0]) is not None
    await cache.obtain(keys[2])
    assert [True, False, True] == [cache.find(key) is not None for key in keys]
    entra.fault = REFUSED
    for number in range(MAX_FAULTS + 5):
        await cache.obtain(TokenKey("c", "t", f"refused-{number}"))
    assert MAX_FAULTS == len(cache._holds)
    assert cache.find(keys[2]) is not None


@in_loop
async def test_what_is_left_of_tokens_is_told() -> None:
    """Seconds of each, for the metrics."""
    entra = Entra()
    cache = entra.cache()
    await cache.obtain(KEY)
    entra.now += 600
    assert [("c", "s", 3000.0)] == cache.seconds_left()
    entra.now += 6000
    assert [("c", "s", 0.0)] == cache.seconds_left()


def test_a_fault_is_logged_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    """The log says which identity, scope and number; the counter has the number, too."""
    metrics = Metrics()
    entra = Entra(fault=REFUSED)
    asyncio.run(entra.cache(metrics=metrics).obtain(KEY))
    fields = caplog.records[0].__dict__["fields"]
    assert (700016, "c-1", "refused") == (fields["aadsts"], fields["correlation_id"], fields["result"])
    assert b'azwi_proxy_exchanges_total{result="refused",code="AADSTS700016"} 1' in metrics.render()
