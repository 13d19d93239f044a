"""Counters of the proxy in the text format of Prometheus, without its client library (12 MiB in each Pod).

Source: "Exposition formats", text-based format 0.0.4 (prometheus.io).
"""

from __future__ import annotations

from collections import Counter
from typing import Final

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_MAX_CODES: Final = 100  # AADSTS numbers told apart; the rest count as "other"


class Metrics:
    """What happened since the start. Only the event loop's thread may use it."""

    def __init__(self) -> None:
        self._requests: Counter[str] = Counter()
        self._exchanges: Counter[tuple[str, str]] = Counter()
        self._cache_hits = 0
        self._cache_misses = 0

    def count_request(self, result: str) -> None:
        """One answered request; `result` is one of few constant words."""
        self._requests[result] += 1

    def count_cache(self, *, hit: bool) -> None:
        """One token that was looked for in memory."""
        if hit:
            self._cache_hits += 1
        else:
            self._cache_misses += 1

    def count_exchange(self, result: str, code: int | None = None) -> None:
        """One request to Entra for a token; `code` is the AADSTS number of a refusal."""
        key = (result, "" if code is None else f"AADSTS{code}")
        if key not in self._exchanges and len(self._exchanges) >= _MAX_CODES:
            key = (result, "other")
        self._exchanges[key] += 1

    def render(self) -> bytes:
        """All counters as text."""
        lines = _head("azwi_proxy_requests_total", "Requests answered, by result.")
        lines += [
            f'azwi_proxy_requests_total{{result="{result}"}} {count}'
            for result, count in sorted(self._requests.items())
        ]
        lines += _head("azwi_proxy_exchanges_total", "Requests to Microsoft Entra for a token, by result and code.")
        lines += [
            f'azwi_proxy_exchanges_total{{result="{result}",code="{code}"}} {count}'
            for (result, code), count in sorted(self._exchanges.items())
        ]
        lines += _head("azwi_proxy_cache_hits_total", "Tokens served from memory.")
        lines.append(f"azwi_proxy_cache_hits_total {self._cache_hits}")
        lines += _head("azwi_proxy_cache_misses_total", "Tokens that memory did not hold, or not for long enough.")
        lines.append(f"azwi_proxy_cache_misses_total {self._cache_misses}")
        return ("\n".join(lines) + "\n").encode()


def _head(name: str, text: str) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} counter"]
