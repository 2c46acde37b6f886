"""Metrics as text for Prometheus. Pure: from the meter's numbers to lines, in slices.

Sources: Prometheus' text exposition format 0.0.4. Names and labels are Linkerd's (contract/metrics.py).
"""

from collections.abc import Iterator
from math import isfinite, isnan
from typing import Final

from contract import metrics
from contract.metrics import LATENCY_BUCKETS_MS
from proxy.meter import CLASSES_COUNT, HttpSeries, Labels, Meter, StatusSeries, TcpSeries

_HELP: Final = {
    metrics.REQUEST_TOTAL: "Requests sent on.",
    metrics.RESPONSE_TOTAL: "Responses, by status and classification.",
    metrics.RESPONSE_LATENCY_MS: "Milliseconds from a request's head to its response's first byte.",
    metrics.TCP_OPEN_TOTAL: "Connections opened.",
    metrics.TCP_CLOSE_TOTAL: "Connections closed, by errno (empty: orderly).",
    metrics.TCP_OPEN_CONNECTIONS: "Connections open now.",
    metrics.TCP_READ_BYTES_TOTAL: "Bytes read from the peer.",
    metrics.TCP_WRITE_BYTES_TOTAL: "Bytes written to the peer.",
}

COUNTERS: Final = {
    "outbound_http_errors_total": ("error", "Outbound failures that the sidecar made."),
    "inbound_http_errors_total": ("error", "Inbound failures that the sidecar made."),
    "outbound_tcp_errors_total": ("error", "Outbound connections that failed before they were HTTP, or never were."),
    "inbound_tcp_errors_total": ("error", "Inbound connections that failed before they were HTTP, or never were."),
    "memory_shed_total": ("direction", "Connections cut, or parts of them, because clients held too much memory."),
    "http1_faults_total": ("direction, reason", "Requests refused because they break HTTP/1."),
    "http2_faults_total": ("direction, reason", "Connections and streams ended because they break HTTP/2."),
    "tcp_protocol_connections_total": ("direction, protocol", "Client connections by detected protocol."),
    "detect_timeouts_total": ("direction", "Client connections whose first bytes told no protocol in time."),
    "timeouts_total": (
        "direction, kind, service",
        "Requests that a policy's time ended (request, response) or their caller's own (caller), and tries (per-try).",
    ),
    "outbound_repick_total": (
        "reason",
        "Requests sent to another endpoint because the first could not be connected to.",
    ),
    "outbound_retry_total": ("reason", "Requests sent again because a kept-alive connection ended under them."),
    "outbound_retry_requests_total": ("service", "Tries after the first, made by a retry policy."),
    "outbound_retry_successes_total": ("service", "Requests that succeeded by a try after the first."),
    "outbound_retry_skipped_total": (
        "reason, service",
        "Failed tries that were not followed by another: limit, budget, method or body.",
    ),
    "outbound_hedge_requests_total": ("service", "Second requests sent beside a slow first one."),
    "outbound_hedge_wins_total": ("service", "Hedged requests whose second request was answered first."),
    "outbound_hedge_skipped_total": (
        "reason, service",
        "Slow requests beside which no second one was sent: limit, budget, method or body.",
    ),
    "outbound_ejections_total": (
        "service, cause",
        "Endpoints left out of balancing because they failed: consecutive-failures, success-ratio or probation.",
    ),
    "outbound_ejections_capped_total": (
        "service",
        "Failures that would have ejected an endpoint, if not too many were ejected already.",
    ),
    "outbound_recoveries_total": ("service", "Ejected endpoints whose trial went well: they are balanced to again."),
    "outbound_shed_total": (
        "reason, service",
        "Requests refused because a concurrency limit was reached and the queue was full, or too slow.",
    ),
    "outbound_mirror_requests_total": ("mirror", "Copies of requests sent to a mirror."),
    "outbound_mirror_differences_total": (
        "part, mirror",
        "Answers of a mirror that differ from the original in status, headers or body.",
    ),
    "outbound_mirror_dropped_total": (
        "reason, mirror",
        "Copies of requests that were not sent, or not followed to the end.",
    ),
    "outbound_faults_total": (
        "kind, service",
        "Faults injected by policy, each into one try: delay, abort, reset, bandwidth or truncate.",
    ),
    "inbound_http_local_ratelimit_total": (
        "by, service",
        "Requests refused by a rate limit of this pod, of the service or of the client.",
    ),
    "inbound_crowded_out_total": (
        "what",
        "Client connections ended for others while idle or busy, or turned away (newcomer), because all were taken.",
    ),
    "pool_shed_total": ("", "Unused server connections closed because there were too many."),
    "accept_pauses_total": ("reason", "Rests of a listener, by what was exhausted."),
    "admin_refusals_total": (
        "what",
        "Connections (client) and pages (page) of the admin port refused, or ended for others, when all were taken.",
    ),
    "worker_exits_total": ("cause", "Worker processes that ended and were replaced, by exit code or signal."),
    "bugs_total": ("", "Unexpected exceptions."),
    "metrics_overflow_total": ("", "Series that did not fit and were counted in the overflow series."),
}
"""Counters of rare events: their labels, and what they count. docs/metrics.md repeats it."""

EJECTED_GAUGE: Final = ("outbound_endpoints_ejected", "Endpoints ejected because they failed, until a trial goes well.")
"""Name and meaning of the gauge that goes with `outbound_ejections_total`."""

SLICE_SERIES_COUNT: Final = 50
"""Series in one slice of text (about 100 kB): the renderer rests between slices so that traffic does not wait."""


def labels(pairs: Labels, *more: tuple[str, str]) -> str:
    """Render `{name="value",...}`; values are escaped."""
    return "{" + ",".join(f'{name}="{escape(value)}"' for name, value in (*pairs, *more)) + "}" if pairs or more else ""


def escape(value: str) -> str:
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return value


def number(value: float) -> str:
    """Write a number as Prometheus reads it; what is not finite has words of its own there."""
    if not isfinite(value):
        return "NaN" if isnan(value) else "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(value)


def render(meter: Meter) -> Iterator[str]:
    """Give the text in slices; series that appear meanwhile come with the next scrape."""
    meter.fold()
    http = list(meter.http.values())
    tcp = list(meter.tcp.values())
    yield _counters(meter)
    yield _head(metrics.REQUEST_TOTAL, "counter")
    for some in _slices(http):
        yield "".join(f"{metrics.REQUEST_TOTAL}{labels(s.labels)} {s.requests}\n" for s in some if s.requests)
    yield _head(metrics.RESPONSE_TOTAL, "counter")
    for some in _slices(http):
        yield "".join(map(_responses, some))
    yield _head(metrics.RESPONSE_LATENCY_MS, "histogram")
    for some in _slices(http):
        yield "".join(map(_latency, some))
    yield from _tcp(tcp)


def _slices(series: list[HttpSeries]) -> Iterator[list[HttpSeries]]:
    for start in range(0, len(series), SLICE_SERIES_COUNT):
        yield series[start : start + SLICE_SERIES_COUNT]


def _head(name: str, kind: str) -> str:
    meaning = _HELP.get(name) or COUNTERS.get(name, ("", name))[1]
    return f"# HELP {name} {meaning}\n# TYPE {name} {kind}\n"


def _responses(series: HttpSeries) -> str:
    return "".join(
        f"{metrics.RESPONSE_TOTAL}{labels(series.labels, *_status(found), _classification(found))} {found.count}\n"
        for found in series.by_status.values()
    )


def _status(found: StatusSeries) -> Labels:
    """Name what was answered; `grpc_status` is there for gRPC alone."""
    status = f"{found.status}xx" if found.status <= CLASSES_COUNT else str(found.status)
    code = ("status_code", status)
    return (code, ("grpc_status", found.grpc)) if found.grpc else (code,)


def _classification(found: StatusSeries) -> tuple[str, str]:
    return ("classification", "success" if found.success else "failure")


def _latency(series: HttpSeries) -> str:
    lines = []
    for found in series.by_status.values():
        own = labels(series.labels, *_status(found))[:-1]
        cumulative = 0
        for bound, count in zip(LATENCY_BUCKETS_MS, found.buckets, strict=False):
            cumulative += count
            lines.append(f'{metrics.RESPONSE_LATENCY_MS}_bucket{own},le="{bound}"}} {cumulative}\n')
        lines.append(f'{metrics.RESPONSE_LATENCY_MS}_bucket{own},le="+Inf"}} {found.count}\n')
        lines.append(f"{metrics.RESPONSE_LATENCY_MS}_sum{own}}} {number(round(found.sum_ms, 3))}\n")
        lines.append(f"{metrics.RESPONSE_LATENCY_MS}_count{own}}} {found.count}\n")
    return "".join(lines)


def _tcp(tcp: list[TcpSeries]) -> Iterator[str]:
    for name, kind, attribute in (
        (metrics.TCP_OPEN_TOTAL, "counter", "opened"),
        (metrics.TCP_OPEN_CONNECTIONS, "gauge", "open_now"),
        (metrics.TCP_READ_BYTES_TOTAL, "counter", "read_bytes"),
        (metrics.TCP_WRITE_BYTES_TOTAL, "counter", "write_bytes"),
    ):
        lines = [
            f"{name}{labels(series.labels)} {getattr(series, attribute)}\n"
            for series in tcp
            if series.touched or series.is_live
        ]
        yield _head(name, kind) + "".join(lines)
    yield _head(metrics.TCP_CLOSE_TOTAL, "counter")
    for series in tcp:
        yield "".join(
            f"{metrics.TCP_CLOSE_TOTAL}{labels(series.labels, ('errno', errno))} {count}\n"
            for errno, count in series.closed.items()
            if count
        )


def _counters(meter: Meter) -> str:
    by_name: dict[str, list[str]] = {}
    for (name, pairs), count in meter.counters.items():
        by_name.setdefault(name, []).append(f"{name}{labels(pairs)} {count}\n")
    by_name["metrics_overflow_total"] = [f"metrics_overflow_total {meter.overflows_count}\n"]
    text = [_head(name, "counter") + "".join(lines) for name, lines in sorted(by_name.items())]
    for name, (read, meaning) in meter.gauges.items():
        kind = "counter" if name.endswith("_total") else "gauge"
        text.append(f"# HELP {name} {meaning}\n# TYPE {name} {kind}\n{name} {number(read())}\n")
    return "".join(text)
