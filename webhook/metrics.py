"""What the webhook counts, on its own registry. Turn."""

from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

# Every series would have a twin that tells when it began; nothing here asks for that.
disable_created_metrics()  # type: ignore[no-untyped-call]

BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0)
"""Around the promise of 20 ms, up to the API server's own patience of 5 s."""


class Metrics:
    """Counters of one webhook; label values come from fixed sets, never from a request."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._decisions = Counter(
            "tulle_webhook_decisions",
            "Admission requests by decision (injected, skipped, accepted, refused, untouched, malformed, failed, "
            "foreign) and reason.",
            ["decision", "reason"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "tulle_webhook_decision_seconds",
            "Time from a whole request to its answer.",
            buckets=BUCKETS_S,
            registry=self._registry,
        )
        self._expiry = Gauge(
            "tulle_webhook_certificate_expiry_timestamp_seconds",
            "Unix time at which the serving certificate ends.",
            registry=self._registry,
        )
        self._ready = Gauge("tulle_webhook_ready", "1 when /readyz answers 200.", registry=self._registry)
        self._dropped = Gauge(
            "tulle_webhook_events_dropped", "Events that found the queue full.", registry=self._registry
        )

        self._unverified = Gauge(
            "tulle_webhook_events_unverified",
            "Events that were not written, because what they are about is not as the review said.",
            registry=self._registry,
        )
        self._ended = Counter(
            "tulle_webhook_connections_ended",
            "Connections ended early, by reason: full (for others, or turned away), handshake, head, body, bodies.",
            ["reason"],
            registry=self._registry,
        )

    def count_ended(self, reason: str) -> None:
        self._ended.labels(reason).inc()

    def record(self, decision: str, reason: str, elapsed_s: float) -> None:
        self._decisions.labels(decision, reason).inc()
        self._seconds.observe(elapsed_s)

    def render(self, is_ready: bool, certificate_expiry: datetime, dropped_count: int, unverified_count: int) -> bytes:
        """Prometheus text format 0.0.4."""
        self._ready.set(is_ready)
        self._expiry.set(certificate_expiry.timestamp())
        self._dropped.set(dropped_count)
        self._unverified.set(unverified_count)
        return generate_latest(self._registry)
