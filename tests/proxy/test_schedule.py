"""When tokens are renewed and faults tried again: what always holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azwi.entra.faults import EntraFault, unavailable
from azwi.entra.tokens import AccessToken
from azwi.proxy import schedule

lives = st.integers(1, 90_000)
chances = st.floats(0, 1)
faults = st.builds(
    EntraFault,
    error=st.just("e"),
    description=st.just("d"),
    code=st.sampled_from([None, 70021, 700211, 700213, 700024, 700016]),
    status=st.sampled_from([None, 400, 401, 429, 503]),
    retry_after=st.none() | st.integers(0, 3600),
    unavailable=st.booleans(),
    local=st.booleans(),
)


def make_token(life: int, refresh_on: int | None = None) -> AccessToken:
    """A token that was obtained at 1000."""
    return AccessToken("t", 1000, 1000 + life, 1000, 1000 + life, refresh_on)


@given(lives, st.none() | st.integers(-5000, 100_000), chances)
def test_a_renewal_comes_while_the_token_is_valid(life: int, wish: int | None, chance: float) -> None:
    """After it was obtained and before it ends, whatever Entra wishes; never for a short life."""
    renewal = schedule.find_renewal(make_token(life, wish), chance)
    if life < schedule.SHORT_LIFE:
        assert renewal is None
    else:
        assert renewal is not None
        assert 1000 < renewal < 1000 + life


@given(lives, chances)
def test_a_fresh_token_has_life_left(life: int, elapsed: float) -> None:
    """What is served without asking is valid, and a new token is always fresh."""
    token = make_token(life)
    assert schedule.is_fresh(token, 1000)
    now = 1000 + elapsed * life
    assert schedule.is_valid(token, now) or not schedule.is_fresh(token, now)


@given(faults, st.integers(1, 10), st.floats(0, 20), chances)
def test_tries_stay_within_bounds(fault: EntraFault, tries: int, left: float, chance: float) -> None:
    """Never more than so many, never past the deadline, never before Entra's wish, never for what cannot work."""
    pause = schedule.find_pause(fault, tries, left, chance)
    if pause is None:
        return
    assert tries < schedule.MAX_TRIES
    assert fault.transient or fault.stale_assertion
    if not fault.stale_assertion:
        assert max(fault.retry_after or 0, 0.1) <= pause < left


@given(faults, chances)
def test_holds_are_short(fault: EntraFault, chance: float) -> None:
    """Seconds for who waits, minutes for who has a token; Entra's own wish counts within that."""
    assert 0 <= schedule.find_hold(fault, chance, has_token=False) <= 30
    assert 15 <= schedule.find_hold(fault, chance, has_token=True) <= 300


@pytest.mark.parametrize(
    ("refresh_on", "chance", "expected"),
    [(None, 0, 2800), (None, 1, 2620), (1600, 0, 1600), (1600, 1, 1540), (900, 0, 2800), (9000, 0, 2800)],
)
def test_renewal(refresh_on: int | None, chance: float, expected: float) -> None:
    """Entra's wish where it makes sense, else half of the life; up to a tenth earlier."""
    assert expected == pytest.approx(schedule.find_renewal(make_token(3600, refresh_on), chance))


def test_a_pause_that_is_too_long_is_none() -> None:
    """A second before the deadline nothing is worth trying."""
    assert schedule.find_pause(unavailable("x"), 1, 1.1, 0) is None
    assert schedule.find_pause(unavailable("x", retry_after=14), 1, 15, 0) is not None
    assert schedule.find_pause(unavailable("x", retry_after=15), 1, 15, 0) is None


def test_a_stale_token_file_is_read_again_once_whatever_came_before() -> None:
    """The kubelet may have written another while Entra was away."""
    stale = EntraFault("invalid_client", "d", code=700024)
    assert 0.0 == schedule.find_pause(stale, 2, 12, 0.5, stale=1)
    assert schedule.find_pause(stale, 3, 12, 0.5, stale=2) is None
