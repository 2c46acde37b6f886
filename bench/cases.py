"""What is measured: the cases, and how each turns a running system into rows. Edge.

A `Group` is all that one start of a system serves: one set-up, and its measurements one after another.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bench import load, setups
from bench.load import Counted, Refused, Stalled
from bench.probe import cpu_s, rss_mb
from bench.rows import Row
from bench.servers import BODIES, ECHO_PORT, GRPC_PORT, HTTP1_PORT, HTTP2_PORT, PIECES_PORT, SOURCE_PORT
from bench.setups import Setup

CONNECTIONS = (1, 8, 64, 512)
STREAMS = 10
RATES_PER_S = (20, 200, 1000, 2000)
HELD = (1000, 10000)
FLOW_CONNECTIONS = (1, 8)
CONNECT_WORKERS = 8
BODY_CONNECTIONS = 8
PIECES_CONNECTIONS = 8
_ENOUGH_IN_FLIGHT_BYTES = 2**20
_WARM_S = 1
_REST_S = 2.0
_AFTER_BURST_S = 10.0


@dataclass(frozen=True)
class Context:
    """Where a measurement takes place."""

    system: str
    pid: int | None
    folder: Path
    seconds: int
    quick: bool
    faults: list[str]
    say: Callable[[str], None]


@dataclass(frozen=True)
class Group:
    """Measurements that share a set-up and so a start of each system."""

    case: str
    setup: Setup
    run: Callable[[Context], list[Row]]
    systems: tuple[str, ...] = ("direct", "haproxy", "envoy", "tulle")
    most_rounds: int = 3
    """Fewer where a case is slow, or stable enough."""
    is_alone: bool = True
    """Whether the system has a processor to itself: where its CPU is the figure, not latency or throughput."""


def measured(c: Context, row: Row, run: Callable[[int], Counted]) -> Row:
    """Warm up, run for the context's seconds, fill in what it took of whom; where requests failed, once more.

    A second failure is a row without figures that says so, and one of the context's faults.
    """
    try:
        return _measured(c, row, run)
    except Refused as first:
        c.say(f"once more: {row.case}, {row.system}, {row.connections} connections: {first}")
    try:
        return _measured(c, row, run)
    except Refused as second:
        c.faults.append(f"{row.case}, {row.system}, {row.connections} connections: {second}")
        return replace(row, note="requests failed")


def _measured(c: Context, row: Row, run: Callable[[int], Counted]) -> Row:
    if c.pid or not c.quick:
        with suppress(Stalled):
            run(_WARM_S)
    before_s = cpu_s(c.pid) if c.pid else 0.0
    counted = run(c.seconds)
    used_s = cpu_s(c.pid) - before_s if c.pid else 0.0
    return replace(
        row,
        cpu_us_per_request=used_s * 1e6 / counted.requests if c.pid else None,
        requests_per_s=counted.requests / counted.seconds,
        p50_ms=counted.p50_ms,
        p99_ms=counted.p99_ms,
        p999_ms=counted.p999_ms,
        max_ms=counted.max_ms,
        rss_mb=rss_mb(c.pid) if c.pid else None,
    )


def _connections(c: Context) -> tuple[int, ...]:
    return (8, 64) if c.quick else CONNECTIONS


def http1(c: Context) -> list[Row]:
    """Small requests, small responses, kept-alive connections."""
    return [measured(c, Row("http1", c.system, n), partial(load.wrk, "/api/vote?choice=1", n)) for n in _connections(c)]


def http1_pieces(c: Context) -> list[Row]:
    """Responses whose head and body are written apart; clients with a connection for each request, and with one."""
    n = PIECES_CONNECTIONS
    ask = partial(load.wrk, "/", n, port=PIECES_PORT)
    return [
        measured(c, Row("pieces-fresh", c.system, n), partial(ask, is_fresh=True)),
        measured(c, Row("pieces-kept", c.system, n), ask),
    ]


def http2(c: Context) -> list[Row]:
    """The same over HTTP/2, several streams at once on each connection."""
    ask = partial(load.h2load, c.folder, "/hello")
    return [measured(c, Row("http2", c.system, n, streams=STREAMS), partial(ask, n, STREAMS)) for n in _connections(c)]


def grpc_unary(c: Context) -> list[Row]:
    """Calls of one message there and one back."""
    ask = partial(load.h2load, c.folder, load.GRPC_PATH)
    return [
        measured(c, Row("grpc-unary", c.system, n, streams=STREAMS), partial(ask, n, STREAMS)) for n in _connections(c)
    ]


def grpc_stream(c: Context) -> list[Row]:
    """Bidirectional calls that stay open; the next message goes when the last came back. A request is a message."""
    return [
        measured(
            c,
            Row("grpc-stream", c.system, n, streams=STREAMS),
            partial(load.native, "stream", GRPC_PORT, n, STREAMS, load.MESSAGE_BYTES),
        )
        for n in _connections(c)
    ]


def http1_bodies(c: Context) -> list[Row]:
    """Responses of several sizes."""
    n = BODY_CONNECTIONS
    return [
        measured(c, Row("http1-body", c.system, n, body_bytes=size), partial(load.wrk, f"/body/{name}", n))
        for name, size in BODIES.items()
    ]


def http2_bodies(c: Context) -> list[Row]:
    """The same over HTTP/2; the largest one at a time on each connection."""
    rows = []
    for name, size in BODIES.items():
        streams = 1 if size > _ENOUGH_IN_FLIGHT_BYTES else STREAMS
        row = Row("http2-body", c.system, BODY_CONNECTIONS, body_bytes=size, streams=streams)
        rows.append(measured(c, row, partial(load.h2load, c.folder, f"/body/{name}", BODY_CONNECTIONS, streams)))
    return rows


def _open_loop(c: Context, shape: str, port: int, connections: int) -> list[Row]:
    longer = replace(c, seconds=2 * c.seconds)
    return [
        measured(
            longer,
            Row(shape, c.system, connections, rate_per_s=rate),
            partial(load.native, shape, port, connections, rate),
        )
        for rate in ((1000,) if c.quick else RATES_PER_S)
    ]


def open_http1(c: Context) -> list[Row]:
    """Requests that fall due at a constant rate, whatever became of those before."""
    return _open_loop(c, "open-http1", HTTP1_PORT, 64)


def open_http2(c: Context) -> list[Row]:
    """The same over HTTP/2."""
    return _open_loop(c, "open-http2", HTTP2_PORT, 8)


def tcp_flow(c: Context) -> list[Row]:
    """Bytes from the server as fast as they go."""
    rows = []
    for connections in FLOW_CONNECTIONS[-1:] if c.quick else FLOW_CONNECTIONS:
        if c.pid:
            load.native("flow", SOURCE_PORT, connections, _WARM_S)
        before_s = cpu_s(c.pid) if c.pid else 0.0
        counted = load.native("flow", SOURCE_PORT, connections, c.seconds)
        used_s = cpu_s(c.pid) - before_s if c.pid else 0.0
        gigabytes = counted.bytes_count / 1e9
        rows.append(
            Row(
                "tcp-flow",
                c.system,
                connections,
                gb_per_s=gigabytes / counted.seconds,
                cpu_ms_per_gb=used_s * 1000 / gigabytes if c.pid else None,
                rss_mb=rss_mb(c.pid) if c.pid else None,
            )
        )
    return rows


def tcp_connect(c: Context) -> list[Row]:
    """Connections that live for sixteen bytes there and back, several at once."""
    row = Row("tcp-connect", c.system, CONNECT_WORKERS)
    return [measured(c, row, partial(load.native, "connect", ECHO_PORT, CONNECT_WORKERS))]


def memory(c: Context) -> list[Row]:
    """Resident memory: idle, with open connections that have each asked once, and some time after a burst."""
    assert c.pid is not None
    time.sleep(_REST_S / 2 if c.quick else _REST_S)
    rows = [Row("memory", c.system, 0, rss_mb=rss_mb(c.pid))]
    for connections in HELD[:1] if c.quick else HELD:
        with load.held(HTTP1_PORT, connections):
            time.sleep(1)
            rows.append(Row("memory", c.system, connections, rss_mb=rss_mb(c.pid)))
    if not c.quick:
        burst = Row("memory-burst", c.system, 512, body_bytes=BODIES["64k"])
        load.wrk("/body/64k", burst.connections, c.seconds)
        rows.append(replace(burst, rss_mb=rss_mb(c.pid)))
        time.sleep(_AFTER_BURST_S)
        rows.append(replace(burst, case="memory-after", rss_mb=rss_mb(c.pid)))
    return rows


def http1_features(c: Context) -> list[Row]:
    """`http1` with every feature on."""
    return [replace(row, features="on") for row in http1(replace(c, quick=True))]


def http2_features(c: Context) -> list[Row]:
    """`http2` with every feature on."""
    return [replace(row, features="on") for row in http2(replace(c, quick=True))]


PROXIES = ("haproxy", "envoy", "tulle")
GROUPS = (
    Group("http1", setups.HTTP1, http1),
    Group("http1-body", setups.HTTP1, http1_bodies, most_rounds=1),
    Group("http1-pieces", setups.PIECES, http1_pieces, is_alone=False),
    Group("open-http1", setups.HTTP1, open_http1, is_alone=False),
    Group("http2", setups.HTTP2, http2),
    Group("http2-body", setups.HTTP2, http2_bodies, most_rounds=1),
    Group("open-http2", setups.HTTP2, open_http2, most_rounds=2, is_alone=False),
    Group("grpc-unary", setups.GRPC, grpc_unary, most_rounds=2),
    Group("grpc-stream", setups.GRPC, grpc_stream, most_rounds=2),
    Group("tcp-flow", setups.SOURCE, tcp_flow, is_alone=False),
    Group("tcp-connect", setups.ECHO, tcp_connect, is_alone=False),
    Group("http1-features", setups.HTTP1_FEATURES, http1_features, PROXIES),
    Group("http2-features", setups.HTTP2_FEATURES, http2_features, PROXIES),
    Group("memory", setups.HTTP1, memory, PROXIES, most_rounds=1),
)
QUICK = ("http1", "http2", "open-http1", "tcp-flow", "tcp-connect", "memory")
