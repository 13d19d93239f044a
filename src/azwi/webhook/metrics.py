"""What the webhook counts, in Prometheus' text form.

`azwi_mutation_request` keeps the reference's name, buckets and labels, so that its dashboards go on (R 3.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

if TYPE_CHECKING:
    from collections.abc import Mapping

    from azwi.webhook.mutation import Answer

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

_BUCKETS: Final = (
    *(step / 1000 for step in range(1, 10)),
    *(step / 100 for step in range(1, 10)),
    *(step / 10 for step in range(1, 11)),
    1.5,
    2.0,
    2.5,
    3.0,
)


class Metrics:
    """The webhook's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._latency = Histogram(
            "azwi_mutation_request",
            "Seconds that an admission review took",
            ("namespace", "service_name"),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._reviews = Counter(
            "azwi_admission_reviews",
            "Admission reviews by result, and why refused",
            ("result", "reason"),
            registry=self._registry,
        )
        # Looking a series up by its labels costs more than counting.
        self._latency_of: dict[str, Histogram] = {}
        self._reviews_of: dict[tuple[str, str], Counter] = {}
        self._warnings = Counter(
            "azwi_admission_warnings", "Warnings sent, by reason", ("reason",), registry=self._registry
        )
        self._accounts = Gauge("azwi_service_accounts", "Service accounts known", registry=self._registry)

        self._restarts = Counter(
            "azwi_service_account_watch_restarts",
            "Times that following the API server's service accounts failed and was begun again",
            registry=self._registry,
        )
        self._age = Gauge(
            "azwi_service_account_watch_age_seconds",
            "Seconds since the API server last said anything about service accounts",
            registry=self._registry,
        )
        self._reads = Counter(
            "azwi_service_account_reads",
            "Service accounts asked for one by one, by result: found, absent, error, timeout, limited",
            ("result",),
            registry=self._registry,
        )
        self._told: dict[str, int] = {}

    def observe(self, answer: Answer, seconds: float) -> None:
        """Count one answered review."""
        latency = self._latency_of.get(answer.namespace)
        if latency is None:
            latency = self._latency_of[answer.namespace] = self._latency.labels(answer.namespace, "webhook")
        latency.observe(seconds)
        reviews = self._reviews_of.get((answer.result, answer.reason))
        if reviews is None:
            reviews = self._reviews.labels(answer.result, answer.reason)
            self._reviews_of[answer.result, answer.reason] = reviews
        reviews.inc()
        for warning in answer.warnings:
            self._warnings.labels(warning.reason).inc()

    def set_accounts(self, count: int) -> None:
        """Say how many service accounts are known."""
        self._accounts.set(count)

    def set_feed(self, restarts: int, age: float, reads: Mapping[str, int]) -> None:
        """Say how the API server is followed: totals since the start, and the age in seconds."""
        self._restarts.inc(restarts - self._told.get("", 0))
        self._told[""] = restarts
        self._age.set(age)
        for result, count in reads.items():
            self._reads.labels(result).inc(count - self._told.get(result, 0))
            self._told[result] = count

    def render(self) -> bytes:
        """All metrics as text."""
        return generate_latest(self._registry)
