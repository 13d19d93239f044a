"""When a token is renewed, and what follows from a fault: how often it is tried again, for how long it is remembered.

The one place that decides this, without I/O: clock and chance are arguments. A chance is a number from 0 to 1, so that
many Pods that began together do not ask together.

Source: D 27; "Retry guidance" of the Microsoft identity platform: honour Retry-After, else back off exponentially.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from azwi.entra.faults import EntraFault
    from azwi.entra.tokens import AccessToken

# --- Tokens -------------------------------------------------------------------------------------------------

# Seconds of life below which a caller waits a moment for a new token; Entra's SDKs all use five minutes.
NEAR_END: Final = 300
# A token that lives for less is not renewed in the background: half of it is over before anybody noticed.
SHORT_LIFE: Final = 300
SPREAD: Final = 0.1  # of the time until renewal, by which it may come earlier


def is_fresh(token: AccessToken, now: float) -> bool:
    """Whether it can be served without asking anybody: not near its end, for a short one not in its second half."""
    life = token.expires_on - token.obtained_at
    return token.expires_on - now > min(NEAR_END, life / 2)


def is_valid(token: AccessToken, now: float) -> bool:
    """Whether it still opens anything."""
    return token.expires_on > now


def find_renewal(token: AccessToken, chance: float) -> float | None:
    """When to renew it in the background, on the Unix clock: when Entra wishes, else after half of its life.

    None for one that is too short-lived.
    """
    life = token.expires_on - token.obtained_at
    if life < SHORT_LIFE:
        return None
    wish = token.refresh_on
    until = wish - token.obtained_at if wish is not None and token.obtained_at < wish < token.expires_on else life / 2
    return token.obtained_at + until * (1 - SPREAD * chance)


# --- Faults -------------------------------------------------------------------------------------------------

DEADLINE: Final = 15.0  # seconds for one exchange with all its tries
MAX_TRIES: Final = 4
_FIRST_PAUSE: Final = 0.3  # seconds; each is three times the one before: 0.3, 0.9, 2.7
_GROWTH: Final = 3
_MIN_TRY: Final = 1.0  # a try that has less time than this is not worth it

REFUSAL_SECONDS: Final = 3.0
MAX_THROTTLED_SECONDS: Final = 30.0
RENEWAL_SECONDS: Final = 30.0
MAX_RENEWAL_SECONDS: Final = 300.0


def find_pause(fault: EntraFault, tries: int, left: float, chance: float, stale: int = 1) -> float | None:
    """Seconds to wait before the next try, or None when there shall be none.

    Args:
        fault: What the last try gave.
        tries: How many there were.
        left: Seconds until the deadline.
        chance: From 0 to 1.
        stale: How many of the tries were refused for an old service account token.
    """
    if fault.stale_assertion:
        return 0.0 if stale == 1 and tries < MAX_TRIES else None  # the kubelet may just have written another
    if not fault.transient or tries >= MAX_TRIES:
        return None
    pause = _FIRST_PAUSE * _GROWTH ** (tries - 1) * (0.5 + chance)
    if fault.retry_after is not None:
        pause = max(pause, fault.retry_after + chance / 4)
    return pause if pause + _MIN_TRY <= left else None


def find_hold(fault: EntraFault, chance: float, *, has_token: bool) -> float:
    """For how many seconds Entra is not asked for this token again.

    Args:
        fault: The outcome of all tries.
        chance: From 0 to 1.
        has_token: An older token is valid, so that nobody waits.
    """
    if has_token:
        return min(max(RENEWAL_SECONDS * (0.5 + chance), fault.retry_after or 0), MAX_RENEWAL_SECONDS)
    if fault.local:
        return 0.0  # Entra was not asked, so there is nothing to spare it
    if fault.throttled or fault.unavailable:
        return min(max(REFUSAL_SECONDS, fault.retry_after or 0), MAX_THROTTLED_SECONDS)
    return REFUSAL_SECONDS
