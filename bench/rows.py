"""Rows of results: what one measurement says, and how the rounds of one become one. Pure."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Row:
    """One line of results; the field names are those of bench/results/*.json. None: does not apply, or not measured."""

    case: str
    system: str
    connections: int
    cpu_us_per_request: float | None = None
    """User and system time of the system's processes; in `tcp-connect` a request is a connection."""
    requests_per_s: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    rss_mb: float | None = None
    p999_ms: float | None = None
    max_ms: float | None = None
    streams: int | None = None
    """At once on each connection."""
    body_bytes: int | None = None
    rate_per_s: float | None = None
    """Of an open loop: requests that fall due each second, whatever becomes of them."""
    features: str | None = None
    """`on` where timeouts, retries, circuit breakers and limits are configured."""
    balancing: str | None = None
    slow_ratio: float | None = None
    """Share of the requests that the slow replica got."""
    gb_per_s: float | None = None
    cpu_ms_per_gb: float | None = None
    rounds: int = 1
    low: float | None = None
    """The lowest of the rounds' main figures (see `main_figure`); `high` is the highest."""
    high: float | None = None
    note: str | None = None


MEASURES = (
    "cpu_us_per_request",
    "requests_per_s",
    "p50_ms",
    "p99_ms",
    "p999_ms",
    "max_ms",
    "rss_mb",
    "slow_ratio",
    "gb_per_s",
    "cpu_ms_per_gb",
)
SHAPE = tuple(f.name for f in fields(Row) if f.name not in (*MEASURES, "system", "rounds", "low", "high", "note"))
"""The fields that say what was done; rows equal in these differ by the system alone."""

Shape = tuple[Any, ...]


def shape(row: Row) -> Shape:
    """What was done, without to whom."""
    return tuple(getattr(row, name) for name in SHAPE)


def main_figure(row: Row) -> str:
    """Name the measure by which a row is judged."""
    if row.case.startswith("pieces"):
        return "p50_ms"
    if row.case.startswith("open") or row.case == "slow-replica":
        return "p99_ms"
    if row.cpu_ms_per_gb is not None:
        return "cpu_ms_per_gb"
    if row.cpu_us_per_request is not None:
        return "cpu_us_per_request"
    return "rss_mb" if row.case.startswith("memory") else "requests_per_s"


def merge(rounds: Sequence[Row]) -> Row:
    """Make one row of the rounds of one measurement: the median of each measure, the spread of the main one."""
    first = rounds[0]
    medians: dict[str, Any] = {}
    for name in MEASURES:
        values = [value for row in rounds if (value := getattr(row, name)) is not None]
        medians[name] = _short(median(values)) if values else None
    main = [value for row in rounds if (value := getattr(row, main_figure(first))) is not None]
    notes = sorted({row.note for row in rounds if row.note})
    return replace(
        first,
        **medians,
        rounds=len(rounds),
        low=_short(min(main)) if main else None,
        high=_short(max(main)) if main else None,
        note="; ".join(notes) or None,
    )


def merge_all(rows: Sequence[Row]) -> list[Row]:
    """Merge the rounds of every measurement, in the order in which each was first taken."""
    groups: dict[tuple[str, Shape], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.system, shape(row)), []).append(row)
    return [merge(group) for group in groups.values()]


def of_envoy(rows: Sequence[Row], row: Row, measure: str) -> float | None:
    """Give a row's measure as a share of Envoy's in the same place of the same run."""
    value = getattr(row, measure)
    for rival in rows:
        if rival.system == "envoy" and shape(rival) == shape(row):
            reference = getattr(rival, measure)
            return value / reference if value and reference else None
    return None


def as_json(row: Row) -> dict[str, Any]:
    """The row as results/*.json holds it: the fields of old always, the others where they say something."""
    always = ("case", "system", "connections", "cpu_us_per_request", "requests_per_s", "p50_ms", "p99_ms", "rss_mb")
    return {name: value for name, value in asdict(row).items() if name in always or value is not None}


def _short(value: float) -> float:
    """Four significant digits: more would be noise."""
    return float(f"{value:.4g}") if abs(value) < 1000 else float(round(value))
