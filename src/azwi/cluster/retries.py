"""When a request to the API server is made again, and how long after: the one policy of this room. No I/O.

Source: kubernetes.io/docs/reference/using-api/api-concepts and client-go, which try again on 429 and 5xx and honour
Retry-After.
"""

from __future__ import annotations

from typing import Final

TRIES: Final = 4  # of one request, with the first
FIRST: Final = 0.5  # seconds after a failure; doubles
LONGEST: Final = 30.0  # seconds
_LONGEST_ASKED: Final = 60.0  # seconds that a server may ask for
_PASSING: Final = frozenset({0, 429, 500, 502, 503, 504})


def passes_by_itself(status: int) -> bool:
    """Whether a failure of that HTTP status may be over the next time; 0 stands for no answer."""
    return status in _PASSING


def delay_after(failures: int, chance: float, retry_after: str | None = None) -> float:
    """Seconds to wait after so many failures in a row.

    Args:
        failures: 1 or more.
        chance: 0 to 1, by which waits of many replicas are spread: half of the wait to all of it.
        retry_after: The header of that name; dates count as absent.
    """
    if retry_after is not None and retry_after.isdigit():
        return min(float(retry_after), _LONGEST_ASKED) + FIRST * chance
    longest = min(FIRST * 2.0 ** min(failures - 1, 10), LONGEST)
    return longest * (0.5 + chance / 2)
