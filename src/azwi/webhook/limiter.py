"""How often something may happen: tokens that grow with time. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Limiter:
    """Tokens that grow with time, `rate` a second, `burst` at most; `clock` gives seconds that only grow."""

    def __init__(self, clock: Callable[[], float], rate: float, burst: int) -> None:
        self._clock = clock
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._at = clock()

    def take(self) -> float:
        """Take a token; gives 0, or the seconds until there is one, and then takes none."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._rate

    def reserve(self, within: float) -> float | None:
        """Take a token that will be there; gives the seconds until then, or None, and takes none, if they are more."""
        wait = self.take()
        if wait > within:
            return None
        if wait:
            self._tokens -= 1
        return wait
