"""What the webhook counts, in Prometheus' text form.

`azwi_mutation_request` keeps the reference's name, buckets and labels, so that its dashboards go on (R 3.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
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


_PATCH_BUCKETS: Final = (256, 512, 1024, 2048, 4096, 8192, 16384, 65536, 262144)


class Metrics:
    """The webhook's metrics, in a registry of their own.

    Args:
        by_namespace: Whether the latency of reviews is told by namespace, as the reference does; large clusters have
            too many.
    """

    def __init__(self, *, by_namespace: bool = True) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # one more series for each, which nobody asks for
        self._registry = CollectorRegistry()
        self._by_namespace = by_namespace
        self._latency = Histogram(
            "azwi_mutation_request",
            "Seconds that an admission review took",
            ("namespace", "service_name"),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._patch = Histogram(
            "azwi_admission_patch_bytes",
            "Bytes of JSON Patches sent",
            buckets=_PATCH_BUCKETS,
            registry=self._registry,
        )
        self._reviews = self._counter(
            "azwi_admission_reviews",
            "Admission reviews by result (mutated, unchanged, warned, refused, error), and why",
            "result",
            "reason",
        )
        # Looking a series up by its labels costs more than counting.
        self._latency_of: dict[str, Histogram] = {}
        self._reviews_of: dict[tuple[str, str], Counter] = {}
        self._warnings = self._counter("azwi_admission_warnings", "Warnings sent, by reason", "reason")
        self._accounts = self._gauge("azwi_service_accounts", "Service accounts known")
        self._misses = self._counter(
            "azwi_service_account_misses", "Reviews of Pods whose service account was not known"
        )
        self._restarts = self._counter(
            "azwi_service_account_watch_restarts",
            "Times that following the API server's service accounts failed and was begun again",
        )
        self._age = self._gauge(
            "azwi_service_account_watch_age_seconds",
            "Seconds since the API server last said anything about service accounts",
        )
        self._reads = self._counter(
            "azwi_service_account_reads",
            "Service accounts asked for one by one, by result: found, watched, absent, error, timeout, limited",
            "result",
        )
        self._expiry = self._gauge(
            "azwi_certificate_expiry_timestamp_seconds",
            "When a certificate ends, in seconds since 1970: leaf is served, ca signed it",
            "certificate",
        )
        self._bundles = self._counter("azwi_ca_bundle_writes", "Times that a caBundle was brought in order")
        self._leading = self._gauge("azwi_leader", "Whether this replica keeps certificates and looks at Pods")
        self._events = self._counter("azwi_events", "Events by what became of them: written, dropped, failed", "result")
        self._findings = self._gauge(
            "azwi_pod_findings",
            "Pods by what is wrong with their identity, as of the last look: not-injected, not-labelled, stale",
            "reason",
        )
        self._told: dict[str, float] = {}

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(name, what, labels, registry=self._registry)

    def _gauge(self, name: str, what: str, *labels: str) -> Gauge:
        return Gauge(name, what, labels, registry=self._registry)

    def observe(self, answer: Answer, seconds: float) -> None:
        """Count one answered review."""
        namespace = answer.namespace if self._by_namespace else ""
        latency = self._latency_of.get(namespace)
        if latency is None:
            latency = self._latency_of[namespace] = self._latency.labels(namespace, "webhook")
        latency.observe(seconds)
        reviews = self._reviews_of.get((answer.result, answer.reason))
        if reviews is None:
            reviews = self._reviews.labels(answer.result, answer.reason)
            self._reviews_of[answer.result, answer.reason] = reviews
        reviews.inc()
        if answer.patch_size:
            self._patch.observe(answer.patch_size)
        for warning in answer.warnings:
            self._warnings.labels(warning.reason).inc()

    def count_miss(self) -> None:
        """Count a review whose service account was not known."""
        self._misses.inc()

    def set_accounts(self, count: int) -> None:
        """Say how many service accounts are known."""
        self._accounts.set(count)

    def set_feed(self, restarts: int, age: float, reads: Mapping[str, int]) -> None:
        """Say how the API server is followed: totals since the start, and the age in seconds."""
        self._raise(self._restarts, "restarts", restarts)
        self._age.set(age)
        for result, count in reads.items():
            self._raise(self._reads.labels(result), "reads " + result, count)

    def set_expiry(self, ends: Mapping[str, float]) -> None:
        """Say when certificates end, in seconds since 1970."""
        for certificate, end in ends.items():
            self._expiry.labels(certificate).set(end)

    def set_bundle_writes(self, count: int) -> None:
        """Say how often caBundles were written since the start."""
        self._raise(self._bundles, "bundles", count)

    def set_leading(self, leading: bool, findings: Mapping[str, int]) -> None:  # noqa: FBT001  # a gauge's value
        """Say whether this replica leads, and what it found of Pods."""
        self._leading.set(leading)
        self._findings.clear()
        for reason, count in findings.items():
            self._findings.labels(reason).set(count)

    def set_events(self, counts: Mapping[str, int]) -> None:
        """Say what became of Events, in totals since the start."""
        for result, count in counts.items():
            self._raise(self._events.labels(result), "events " + result, count)

    def _raise(self, counter: Counter, key: str, total: float) -> None:
        """Bring a counter to a total that is kept elsewhere."""
        counter.inc(total - self._told.get(key, 0.0))
        self._told[key] = total

    def render(self) -> bytes:
        """All metrics as text."""
        return generate_latest(self._registry)
