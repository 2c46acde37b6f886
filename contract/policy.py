"""Traffic policy: what the controller tells a sidecar to do with a service's traffic. Pure.

These are the wire types of discovery: numbers with units, everything decided, nothing to parse. What users write, the
TrafficPolicy and FaultInjection kinds, is read by contract/kinds.py. A part that is absent is off.
"""

from typing import Literal

import msgspec

Algorithm = Literal["peak-ewma", "least-request", "round-robin", "ring-hash"]


class Timeouts(msgspec.Struct, frozen=True, omit_defaults=True):
    """Seconds; 0: no limit."""

    request_s: float = 0.0
    """From the request's head to the end of the response, all tries included."""
    per_try_s: float = 0.0
    """From the start of a try to the head of its response."""
    response_s: float = 0.0
    """From the end of the request to the end of the response."""
    idle_s: float = 0.0
    """Silence of both sides within an exchange; in place of the sidecar's own setting."""


class Budget(msgspec.Struct, frozen=True, omit_defaults=True):
    """How many retries and hedges a service may cost, as a share of its requests of the last `window_s`."""

    ratio: float = 0.2
    min_per_s: float = 10.0
    """Allowed whatever the ratio says, so that a quiet service can retry at all."""
    window_s: float = 10.0


class Retries(msgspec.Struct, frozen=True, omit_defaults=True):
    """When a failed try is followed by another."""

    limit_count: int = 1
    """Tries after the first."""
    statuses: tuple[tuple[int, int], ...] = ()
    """Inclusive ranges of HTTP statuses: (502, 504)."""
    grpc_statuses: tuple[int, ...] = ()
    on_connect_failure: bool = True
    """No connection, or one that ended before a byte of the request was read (GOAWAY, REFUSED_STREAM)."""
    on_reset: bool = False
    """The server reset or closed before its response began, or a try's time was up."""
    methods: tuple[str, ...] = ("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE")
    """For all but connect failures, which are safe for any method. gRPC is judged by `grpc_statuses` alone."""
    backoff_min_s: float = 0.025
    backoff_max_s: float = 0.25
    """The pause before try n is drawn from 0 to min(max, min x 2^n): full jitter."""
    body_bytes: int = 65536
    """Largest request body kept for another try."""


class Hedging(msgspec.Struct, frozen=True, omit_defaults=True):
    """A second request beside a slow first one; the first answer wins. Idempotent methods only."""

    delay_s: float = 0.0
    percentile: float = 0.0
    """When not 0: the delay is this percentile (0 to 100) of the service's latest latencies, at least `delay_s`."""
    limit_count: int = 1


class CircuitBreaker(msgspec.Struct, frozen=True, omit_defaults=True):
    """When an endpoint is ejected: left out of balancing for a while, then tried with single requests (probation)."""

    consecutive_failures_count: int = 0
    """0: not judged by it. A failure is a 5xx, no response, or a gRPC status that is the server's fault."""
    success_ratio: float = 0.0
    """0: not judged by it. Ejected when less of the window's responses were successes."""
    window_s: float = 10.0
    min_requests_count: int = 20
    """Responses in the window before its success ratio says anything."""
    ejection_min_s: float = 1.0
    ejection_max_s: float = 60.0
    """Doubled with each ejection in a row."""
    max_ejected_ratio: float = 0.5
    """Share of a service's endpoints that may be ejected at once (at least one may)."""


class Concurrency(msgspec.Struct, frozen=True, omit_defaults=True):
    """How many requests may be in flight from one sidecar; more wait in a queue, more than that are shed (503)."""

    limit_count: int = 0
    """0: no limit."""
    queue_count: int = 0
    queue_timeout_s: float = 1.0


class Rate(msgspec.Struct, frozen=True, omit_defaults=True):
    """A token bucket."""

    per_s: float = 0.0
    """0: no limit."""
    burst_count: int = 1


class RateLimit(msgspec.Struct, frozen=True, omit_defaults=True):
    """Requests that one server pod takes; enforced by its own (inbound) sidecar: 429 with Retry-After."""

    service: Rate = Rate()
    client: Rate = Rate()
    """For each client: `namespace/service account` of the pod at its address, or the address where there is none."""


class Mirror(msgspec.Struct, frozen=True, omit_defaults=True):
    """A copy of some requests goes to another service; its answer is dropped, or compared first."""

    target: str
    """Cluster IP and port of the other service, `10.96.0.9:80`: a destination like any other."""
    name: str = ""
    """`service.namespace`, for metrics and messages."""
    ratio: float = 1.0
    compares: bool = True
    """Compare status, headers and a digest of the body, and report differences."""
    ignored_headers: tuple[str, ...] = ("date", "x-request-id")


class Hash(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is hashed onto the ring; exactly one is set."""

    header: str = ""
    cookie: str = ""
    source_ip: bool = False


class Affinity(msgspec.Struct, frozen=True, omit_defaults=True):
    """A cookie that names the endpoint that answered first; valid while that endpoint is ready."""

    cookie: str = ""
    """Name of the cookie; empty: no affinity."""
    ttl_s: float = 0.0
    """0: for the browser's session."""
    path: str = "/"


class Balancing(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the next endpoint is chosen."""

    algorithm: Algorithm = "peak-ewma"
    hash: Hash = Hash()
    affinity: Affinity = Affinity()
    slow_start_s: float = 0.0
    """Seconds over which a new endpoint's share grows to its full size; 0: at once."""
    prefers_zone: bool = True
    """Whether endpoints hinted for the client's zone are preferred while one of them is usable."""


class Match(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which requests a fault concerns; what is absent matches all."""

    methods: tuple[str, ...] = ()
    path: str = ""
    path_prefix: str = ""
    """Whole elements: `/a` matches `/a` and `/a/b`, not `/ab`; `path` and this are compared without the query."""
    headers: tuple[tuple[str, str], ...] = ()
    """(lower-case name, exact value); all must match."""


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """One injected failure; what is 0 does not happen. Delay comes first, then abort or reset, then the body's."""

    match: Match = Match()
    ratio: float = 1.0
    """Share of the tries of matching requests."""
    delay_s: float = 0.0
    abort_status: int = 0
    abort_grpc_status: int = -1
    """-1: none; for gRPC requests in place of `abort_status`."""
    is_reset: bool = False
    truncate_bytes: int = -1
    """Break off after so many bytes of the response's body; -1: do not."""
    bandwidth_bytes_per_s: float = 0.0
    name: str = ""
    """`namespace/name` of the FaultInjection, for metrics and messages."""


class ServicePolicy(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that concerns the traffic to one port of a service."""

    timeouts: Timeouts = Timeouts()
    retries: Retries | None = None
    hedging: Hedging | None = None
    budget: Budget = Budget()
    """Shared by retries and hedges."""
    circuit_breaker: CircuitBreaker | None = None
    service_concurrency: Concurrency = Concurrency()
    endpoint_concurrency: Concurrency = Concurrency()
    rate_limit: RateLimit | None = None
    mirror: Mirror | None = None
    balancing: Balancing = Balancing()
    faults: tuple[Fault, ...] = ()
    """Tried in order: the first one that matches and whose ratio is drawn happens, and no other."""
    name: str = ""
    """`namespace/name` of the TrafficPolicy, for metrics and messages; empty when there is none."""
