"""The controller's own metrics, for Prometheus. Waits for nothing; every counter is one of these fields."""

from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

PREFIX = "tulle_controller_"
LAG_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0)


@dataclass(slots=True, eq=False)
class Meters:
    """One set a process (or a test): `registry` renders it."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    streams: Gauge = field(init=False)
    targets: Gauge = field(init=False)
    updates: Counter = field(init=False)
    streams_closed: Counter = field(init=False)
    silent: Gauge = field(init=False)
    reports: Counter = field(init=False)
    refused: Counter = field(init=False)
    sources: Gauge = field(init=False)
    series: Gauge = field(init=False)
    series_overflow: Gauge = field(init=False)
    series_shed: Gauge = field(init=False)
    series_bytes: Gauge = field(init=False)
    watch_events: Counter = field(init=False)
    watch_lists: Counter = field(init=False)
    watch_failures: Counter = field(init=False)
    watch_synced: Gauge = field(init=False)
    watch_lag_s: Histogram = field(init=False)
    trust_writes: Counter = field(init=False)
    trust_failures: Counter = field(init=False)
    issuer_expiry_s: Gauge = field(init=False)
    policies: Gauge = field(init=False)
    status_writes: Counter = field(init=False)
    status_failures: Counter = field(init=False)
    connections_ended: Counter = field(init=False)

    def __post_init__(self) -> None:
        ProcessCollector(registry=self.registry)
        self._of_sidecars(self.registry)
        self._of_cluster(self.registry)

    def _of_sidecars(self, registry: CollectorRegistry) -> None:
        """Make the metrics of what sidecars ask and report."""
        self.streams = Gauge(PREFIX + "discovery_streams", "Open discovery streams", registry=registry)
        self.targets = Gauge(PREFIX + "discovery_targets", "Targets that some stream asks for", registry=registry)
        self.updates = Counter(
            PREFIX + "discovery_destinations_sent", "Destinations sent on discovery streams", registry=registry
        )
        self.streams_closed = Counter(
            PREFIX + "discovery_streams_closed",
            "Discovery streams ended, by reason: client, slow, shutdown, superseded or replaced (by the sidecar's next "
            "one), shed (for want of room), foreign, unknown (see the refusals)",
            ["reason"],
            registry=registry,
        )
        self.silent = Gauge(
            PREFIX + "sidecars_silent",
            "Running pods whose sidecar has held no discovery stream for 30 s",
            registry=registry,
        )
        self.reports = Counter(
            PREFIX + "reports", "Reports taken, by result: counted, duplicate, refused", ["result"], registry=registry
        )
        self.refused = Counter(
            PREFIX + "requests_refused",
            "Requests of sidecars refused, by what was asked (discovery, reports) and reason: foreign-sender (it "
            "speaks for a pod at another address), unknown-sender (no pod has its address yet), busy-sender, no-room, "
            "too-many-streams, too-many-targets, too-large, too-slow, invalid-body, unsupported-encoding, "
            "shutting-down",
            ["asked", "reason"],
            registry=registry,
        )
        self.sources = Gauge(PREFIX + "report_sources", "Sidecars whose reports are kept", registry=registry)
        self.series = Gauge(PREFIX + "report_series", "Series of traffic kept", registry=registry)
        self.series_overflow = Gauge(
            PREFIX + "report_series_overflow",
            "Series of reports that were counted without their peer's name since the start, for want of room",
            registry=registry,
        )
        self.series_shed = Gauge(
            PREFIX + "report_series_shed",
            "Series of traffic given up since the start, for want of room",
            registry=registry,
        )
        self.series_bytes = Gauge(PREFIX + "report_series_bytes", "Memory of the series of traffic", registry=registry)

    def _of_cluster(self, registry: CollectorRegistry) -> None:
        """Make the metrics of what is read from the API server and written to it, and of connections."""
        self.watch_events = Counter(
            PREFIX + "watch_events", "Changes of objects read, by kind", ["kind"], registry=registry
        )
        self.watch_lists = Counter(PREFIX + "watch_lists", "Full lists read, by kind", ["kind"], registry=registry)
        self.watch_failures = Counter(
            PREFIX + "watch_failures", "Lists and watches that failed, by kind", ["kind"], registry=registry
        )
        self.watch_synced = Gauge(
            PREFIX + "watch_synced", "1 once a kind was read whole, by kind", ["kind"], registry=registry
        )
        self.watch_lag_s = Histogram(
            PREFIX + "watch_lag_seconds",
            "Time from reading a change off the API server's connection to waking the streams",
            buckets=LAG_BUCKETS_S,
            registry=registry,
        )
        self.trust_writes = Counter(
            PREFIX + "trust_bundle_writes", "Trust bundles created or corrected", registry=registry
        )
        self.trust_failures = Counter(
            PREFIX + "trust_bundle_failures", "Trust bundles that could not be kept true", registry=registry
        )
        self.issuer_expiry_s = Gauge(
            PREFIX + "issuer_expiry_timestamp_seconds", "When the issuer's certificate expires", registry=registry
        )
        self.policies = Gauge(
            PREFIX + "policies",
            "TrafficPolicies and FaultInjections, by kind and by the reason of their condition Accepted",
            ["kind", "reason"],
            registry=registry,
        )
        self.status_writes = Counter(PREFIX + "policy_status_writes", "Statuses of policies written", registry=registry)
        self.status_failures = Counter(
            PREFIX + "policy_status_failures", "Statuses of policies that could not be written", registry=registry
        )
        self.connections_ended = Counter(
            PREFIX + "connections_ended",
            "Connections ended early, by reason: full (for others, or turned away), handshake, head, body, bodies",
            ["reason"],
            registry=registry,
        )

    def count_ended(self, reason: str) -> None:
        self.connections_ended.labels(reason).inc()
