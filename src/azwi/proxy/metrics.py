"""Counters of the proxy in the text format of Prometheus, without its client library (12 MiB in each Pod).

Source: "Exposition formats", text-based format 0.0.4 (prometheus.io).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
LATENCIES: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds, upper bounds
_MAX_CODES: Final = 100  # AADSTS numbers told apart; the rest count as "other"


class Metrics:
    """What happened since the start. Only the event loop's thread may use it.

    `tokens` gives client id, scope and seconds left of each token in memory.
    """

    def __init__(self) -> None:
        self.tokens: Callable[[], Iterable[tuple[str, str, float]]] = tuple
        self.tokens_served = 0
        self.cache_hits = 0
        self.cache_misses = 0
        self._requests: Counter[tuple[str, str]] = Counter()
        self._exchanges: Counter[tuple[str, str]] = Counter()
        self._latencies = [0] * (len(LATENCIES) + 1)
        self._latency_sum = 0.0

    def count_request(self, result: str, code: int | None = None) -> None:
        """One answered request; `result` is one of few constant words, `code` the AADSTS number behind it."""
        _count(self._requests, result, code)

    def count_exchange(self, result: str, seconds: float, code: int | None = None) -> None:
        """One request to Entra for a token, and how long it took; `code` is the AADSTS number of a refusal."""
        _count(self._exchanges, result, code)
        self._latencies[next((at for at, bound in enumerate(LATENCIES) if seconds <= bound), -1)] += 1
        self._latency_sum += seconds

    def render(self) -> bytes:
        """All of it as text."""
        requests = self._requests + Counter({("token", ""): self.tokens_served})
        lines = _head("azwi_proxy_requests_total", "counter", "Requests answered, by result and AADSTS code.")
        lines += [
            _sample("azwi_proxy_requests_total", {"result": result, **({"code": code} if code else {})}, count)
            for (result, code), count in sorted(requests.items())
        ]
        lines += _head("azwi_proxy_cache_hits_total", "counter", "Tokens served from memory.")
        lines.append(f"azwi_proxy_cache_hits_total {self.cache_hits}")
        lines += _head(
            "azwi_proxy_cache_misses_total", "counter", "Tokens that memory did not hold, or not for long enough."
        )
        lines.append(f"azwi_proxy_cache_misses_total {self.cache_misses}")
        lines += _head("azwi_proxy_token_seconds_left", "gauge", "What is left of the life of each token in memory.")
        lines += [
            _sample("azwi_proxy_token_seconds_left", {"client_id": client_id, "scope": scope}, int(left))
            for client_id, scope, left in self.tokens()
        ]
        lines += self._render_exchanges()
        return ("\n".join(lines) + "\n").encode()

    def _render_exchanges(self) -> list[str]:
        lines = _head(
            "azwi_proxy_exchanges_total", "counter", "Requests to Microsoft Entra for a token, by result and code."
        )
        lines += [
            _sample("azwi_proxy_exchanges_total", {"result": result, "code": code}, count)
            for (result, code), count in sorted(self._exchanges.items())
        ]
        name = "azwi_proxy_exchange_seconds"
        lines += _head(name, "histogram", "How long those requests took.")
        so_far = 0
        for bound, count in zip((*LATENCIES, "+Inf"), self._latencies, strict=True):
            so_far += count
            lines.append(_sample(f"{name}_bucket", {"le": str(bound)}, so_far))
        return [*lines, f"{name}_sum {self._latency_sum:.6f}", f"{name}_count {so_far}"]


def _count(counter: Counter[tuple[str, str]], result: str, code: int | None) -> None:
    key = (result, "" if code is None else f"AADSTS{code}")
    if key not in counter and len(counter) >= _MAX_CODES:
        key = (result, "other")
    counter[key] += 1


def _head(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]


def _sample(name: str, labels: dict[str, str], value: int) -> str:
    pairs = ",".join(f'{label}="{_escape(text)}"' for label, text in labels.items())
    return f"{name}{{{pairs}}} {value}"


def _escape(text: str) -> str:
    """A label's value: backslash, quote and line feed are escaped; resources come from whoever asks."""
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
