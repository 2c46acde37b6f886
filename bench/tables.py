"""Tables of rows, for the terminal and for the documentation. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.table import Table

from bench.rows import Row, main_figure, of_envoy

Cell = Callable[[Sequence[Row], Row], str]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def _plain(name: str) -> Cell:
    return lambda rows, row: _number(getattr(row, name))


def _whole(name: str) -> Cell:
    return lambda rows, row: "-" if getattr(row, name) is None else f"{getattr(row, name):g}"


def _share(measure: str) -> Cell:
    return lambda rows, row: _number(of_envoy(rows, row, measure))


def _spread(rows: Sequence[Row], row: Row) -> str:
    if row.rounds < 2 or row.low is None:
        return "-"
    return f"{_number(row.low)}-{_number(row.high)}"


def _system(rows: Sequence[Row], row: Row) -> str:
    return f"{row.system} ({row.note})" if row.note else row.system


def _size(rows: Sequence[Row], row: Row) -> str:
    size = row.body_bytes or 0
    return f"{size // 2**20} MB" if size >= 2**20 else f"{size // 1024} KB" if size >= 1024 else f"{size}"


def _percent(rows: Sequence[Row], row: Row) -> str:
    return "-" if row.slow_ratio is None else f"{row.slow_ratio:.1%}"


CONNECTIONS = ("connections", _whole("connections"))
STREAMS = ("streams on each", _whole("streams"))
SYSTEM = ("system", _system)
SPREAD = ("lowest-highest", _spread)
COST = (("CPU µs/request", _plain("cpu_us_per_request")), ("of Envoy", _share("cpu_us_per_request")), SPREAD)
PACE = (("requests/s", _whole("requests_per_s")), ("p50 ms", _plain("p50_ms")), ("p99 ms", _plain("p99_ms")))
TAIL = (("p50 ms", _plain("p50_ms")), ("p99 ms", _plain("p99_ms")), ("p99.9 ms", _plain("p999_ms")))
RSS = ("RSS MB", _plain("rss_mb"))
RATE = ("requests/s", _whole("rate_per_s"))


@dataclass(frozen=True)
class Spec:
    """One table: which cases, under which heading, with which columns."""

    name: str
    title: str
    cases: tuple[str, ...]
    columns: tuple[tuple[str, Cell], ...]
    features: str | None = None


SPECS = (
    Spec("http1", "HTTP/1.1, eight request headers, keep-alive", ("http1",), (CONNECTIONS, SYSTEM, *COST, *PACE, RSS)),
    Spec("http2", "HTTP/2, eight request headers", ("http2",), (CONNECTIONS, STREAMS, SYSTEM, *COST, *PACE, RSS)),
    Spec("grpc-unary", "gRPC, unary calls", ("grpc-unary",), (CONNECTIONS, STREAMS, SYSTEM, *COST, *PACE, RSS)),
    Spec(
        "grpc-stream",
        "gRPC, messages on open bidirectional streams (a request is a message)",
        ("grpc-stream",),
        (CONNECTIONS, STREAMS, SYSTEM, *COST, *PACE, RSS),
    ),
    Spec(
        "bodies",
        "Response bodies",
        ("http1-body", "http2-body"),
        (("case", lambda rows, row: row.case), ("body", _size), SYSTEM, *COST, *PACE),
    ),
    Spec(
        "pieces",
        "Responses in two pieces, by a server with Nagle's algorithm on",
        ("pieces-fresh", "pieces-kept"),
        (("case", lambda rows, row: row.case), SYSTEM, *PACE, SPREAD, ("CPU µs/request", _plain("cpu_us_per_request"))),
    ),
    Spec(
        "open",
        "Open loop: latency at a constant rate, counted from when each request was due",
        ("open-http1", "open-http2"),
        (("case", lambda rows, row: row.case), RATE, SYSTEM, *TAIL, SPREAD, ("max ms", _plain("max_ms"))),
    ),
    Spec(
        "tcp-flow",
        "Opaque TCP, bytes from the server as fast as they go",
        ("tcp-flow",),
        (
            CONNECTIONS,
            SYSTEM,
            ("GB/s", _plain("gb_per_s")),
            ("CPU ms/GB", _plain("cpu_ms_per_gb")),
            ("of Envoy", _share("cpu_ms_per_gb")),
            SPREAD,
        ),
    ),
    Spec(
        "tcp-connect",
        "Opaque TCP, connections that live for sixteen bytes there and back, eight at once",
        ("tcp-connect",),
        (
            SYSTEM,
            ("connections/s", _whole("requests_per_s")),
            ("CPU µs/connection", _plain("cpu_us_per_request")),
            ("of Envoy", _share("cpu_us_per_request")),
            SPREAD,
            *TAIL,
        ),
    ),
    Spec(
        "features",
        "Every feature on: timeouts, retries with a budget, circuit breaker, limits, figures for each endpoint",
        ("http1", "http2"),
        (
            ("case", lambda rows, row: row.case),
            CONNECTIONS,
            SYSTEM,
            ("CPU µs/request", _plain("cpu_us_per_request")),
            ("features off", lambda rows, row: _number(_without_features(rows, row))),
            ("of Envoy", _share("cpu_us_per_request")),
            SPREAD,
            *PACE,
        ),
        features="on",
    ),
    Spec(
        "slow-replica",
        "One slow replica of three (100 ms against 1 ms), 300 requests a second, open loop",
        ("slow-replica",),
        (SYSTEM, ("balancing", lambda rows, row: row.balancing or ""), ("to the slow one", _percent), *TAIL),
    ),
    Spec(
        "memory",
        "Memory: idle, with open connections, in a burst and ten seconds after it",
        ("memory", "memory-burst", "memory-after"),
        (("case", lambda rows, row: row.case), CONNECTIONS, SYSTEM, RSS, ("of Envoy", _share("rss_mb"))),
    ),
)


def _without_features(rows: Sequence[Row], row: Row) -> float | None:
    for other in rows:
        same = (other.case, other.system, other.connections) == (row.case, row.system, row.connections)
        if same and other.features is None:
            return other.cpu_us_per_request
    return None


def rows_of(spec: Spec, rows: Sequence[Row]) -> list[Row]:
    """The rows of one table: by what was done, then by system."""
    chosen = [row for row in rows if row.case in spec.cases and row.features == spec.features]
    systems = ("direct", "haproxy", "envoy", "tulle")

    def order(row: Row) -> tuple[float | str, ...]:
        body = row.body_bytes if row.case.endswith("-body") else 0
        if row.case.startswith("memory"):
            return (spec.cases.index(row.case), row.connections, 0, 0, systems.index(row.system))
        return (row.case, row.connections, body or 0, row.rate_per_s or 0, systems.index(row.system))

    return sorted(chosen, key=order)


def cells(spec: Spec, rows: Sequence[Row]) -> list[tuple[Row, list[str]]]:
    """Each row of a table, with its texts."""
    return [(row, [cell(rows, row) for _, cell in spec.columns]) for row in rows_of(spec, rows)]


def rich_tables(rows: Sequence[Row]) -> list[Table]:
    """For the terminal: the tables that have rows."""
    tables = []
    for spec in SPECS:
        if not rows_of(spec, rows):
            continue
        table = Table(title=spec.title)
        for name, _ in spec.columns:
            table.add_column(name, justify="left" if name in ("system", "case", "balancing") else "right")
        for row, texts in cells(spec, rows):
            table.add_row(*texts, style="bold" if row.system == "tulle" else None)
        tables.append(table)
    return tables


def markdown(spec: Spec, rows: Sequence[Row]) -> str:
    """For the documentation."""
    left = ("system", "case", "balancing")
    lines = [
        "| " + " | ".join(name for name, _ in spec.columns) + " |",
        "|" + "|".join("---" if name in left else "---:" for name, _ in spec.columns) + "|",
    ]
    for row, texts in cells(spec, rows):
        bold = [
            f"**{text}**" if row.system == "tulle" and name == "system" else text
            for (name, _), text in zip(spec.columns, texts, strict=True)
        ]
        lines.append("| " + " | ".join(bold) + " |")
    return "\n".join(lines)


def what_spreads(spec: Spec, rows: Sequence[Row]) -> str:
    """Name the figure whose lowest and highest a table shows."""
    chosen = rows_of(spec, rows)
    return main_figure(chosen[-1]) if chosen else ""
