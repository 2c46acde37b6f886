"""Reports: what a sidecar counted since its last report. Pure.

Every REPORT_INTERVAL_S a sidecar posts one `Report` as JSON to `REPORT_PATH`; the controller answers 204. A report
that got no answer is sent again under the same sequence number, and counted once; it says how old it is by then, so
that its counts are dated to when they were made.
"""

from typing import Annotated, Final, Literal

import msgspec

REPORT_PATH: Final = "/proxy/v1/reports"

REPORT_INTERVAL_S: Final = 10.0
"""Seconds between two reports of one sidecar."""

MAX_SERIES_COUNT: Final = 2000
"""Series in one report, http and tcp each; more is refused with 422."""

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Direction = Literal["inbound", "outbound"]
Name = Annotated[str, msgspec.Meta(max_length=253)]


class Peer(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The other side of outbound traffic; all fields empty for inbound traffic and for unknown destinations."""

    namespace: Name = ""
    service: Name = ""
    pod: Name = ""
    owner_kind: Name = ""
    owner: Name = ""


class HttpSeries(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Requests that ended since the last report, by direction and peer."""

    direction: Direction
    peer: Peer
    success: Count
    failure: Count
    latency_ms: tuple[Count, ...]
    """One count a bucket of LATENCY_BUCKETS_MS and one more for +Inf; not cumulative."""
    latency_sum_ms: Annotated[float, msgspec.Meta(ge=0)]


class TcpSeries(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Connections of the sidecar's clients (direction inbound) or servers (outbound), by peer."""

    direction: Direction
    peer: Peer
    opened: Count
    closed: Count
    open_now: Count
    """A gauge: connections open when the report was made."""
    read_bytes: Count
    write_bytes: Count


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One sidecar's deltas."""

    namespace: Name
    pod: Name
    instance: Annotated[str, msgspec.Meta(max_length=64)]
    """Random at the sidecar's start: with `sequence` it names a report once and for all."""
    sequence: Count
    interval_s: Annotated[float, msgspec.Meta(ge=0, le=3600)]
    """Seconds that the deltas cover."""
    http: Annotated[tuple[HttpSeries, ...], msgspec.Meta(max_length=MAX_SERIES_COUNT)]
    tcp: Annotated[tuple[TcpSeries, ...], msgspec.Meta(max_length=MAX_SERIES_COUNT)]
    age_s: Annotated[float, msgspec.Meta(ge=0, le=86400)] = 0.0
    """Seconds from the end of the interval to this sending: above zero for a report that was kept."""
