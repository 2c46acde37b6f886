"""What all sidecars reported: sources, their series, duplicates, bounds. Pure; time is an argument.

Bounded twice: at `max_sources_count` sidecars, and at `max_series_count` series, beyond which a sidecar's further
peers are counted together as one nameless peer: totals stay true, only the who is lost, and the loss is counted.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from contract.metrics import LATENCY_BUCKETS_MS
from contract.report import Direction, HttpSeries, Peer, Report, TcpSeries
from controller.objects import NO_OWNER, Key, Owner
from controller.windows import (
    FAILURE,
    OPENED,
    READ_BYTES,
    SLOT_S,
    SUCCESS,
    WINDOW_S,
    WRITE_BYTES,
    Sample,
    Series,
    Span,
    spread,
)

NAMELESS: Final = Peer()
EXPIRY_S: Final = WINDOW_S + 60.0
"""A series silent for this long is in no window any more."""
INSTANCES_COUNT: Final = 4
"""Instances of one sidecar (its container restarts) whose sequences are remembered."""
SEQUENCES_COUNT: Final = 64
"""Sequences below the highest that are told apart; older ones count as seen."""


@dataclass(slots=True)
class Sequences:
    """Which sequence numbers of one instance were counted."""

    highest: int = -1
    seen: int = 0
    """Bit n: `highest - n` was counted."""

    def is_new(self, sequence: int) -> bool:
        """Say whether the number was not seen before, and remember it."""
        ahead = sequence - self.highest
        if ahead > 0:
            self.seen = ((self.seen << min(ahead, SEQUENCES_COUNT)) | 1) & ((1 << SEQUENCES_COUNT) - 1)
            self.highest = sequence
            return True
        if ahead <= -SEQUENCES_COUNT or self.seen >> -ahead & 1:
            return False
        self.seen |= 1 << -ahead
        return True


@dataclass(slots=True, eq=False)
class Source:
    """One sidecar."""

    key: Key
    owner: Owner = NO_OWNER
    reported_until_s: float = 0.0
    series: dict[tuple[Direction, Peer], Series] = field(default_factory=dict)
    instances: dict[str, Sequences] = field(default_factory=dict)

    def is_new(self, instance: str, sequence: int) -> bool:
        sequences = self.instances.pop(instance, None) or Sequences()
        while len(self.instances) >= INSTANCES_COUNT:
            del self.instances[next(iter(self.instances))]
        self.instances[instance] = sequences  # last in the order of use
        return sequences.is_new(sequence)


@dataclass(frozen=True, slots=True)
class Statistics:
    sources_count: int
    series_count: int


@dataclass(slots=True, eq=False)
class Traffic:
    """All sources; the only writer of series."""

    max_sources_count: int
    max_series_count: int
    overflow_count: int = 0
    """Series of reports that had to be counted under the nameless peer, or not at all."""
    sources: dict[Key, Source] = field(default_factory=dict)
    _series_count: int = 0

    def ingest(self, report: Report, owner: Owner, now_s: float) -> bool:
        """Count a report that arrived now; False when it had been counted before.

        `owner` is the pod's top owner, NO_OWNER where it is not known (yet): the last known one stays.

        Raises:
            ValueError: a series has another number of latency buckets; the message names the field.
        """
        for index, item in enumerate(report.http):
            if len(item.latency_ms) != len(LATENCY_BUCKETS_MS) + 1:
                raise ValueError(
                    f"Expected {len(LATENCY_BUCKETS_MS) + 1} counts, got {len(item.latency_ms)}"
                    f" - at `$.http[{index}].latency_ms`"
                )
        source = self._source(Key(report.namespace, report.pod))
        if source is None:
            self.overflow_count += len(report.http) + len(report.tcp)
            return True
        is_restarted = report.instance not in source.instances
        if not source.is_new(report.instance, report.sequence):
            return False
        if is_restarted:
            for series in source.series.values():
                series.open_now = 0
        source.owner = source.owner if owner == NO_OWNER else owner
        span = Span(max(0.0, now_s - report.interval_s), now_s)
        source.reported_until_s = now_s
        for http in report.http:
            _count_http(self._series(source, http.direction, http.peer, span), http, span)
        open_now: dict[Series, int] = {}
        for tcp in report.tcp:
            series = self._series(source, tcp.direction, tcp.peer, span)
            _count_tcp(series, tcp, span)
            open_now[series] = open_now.get(series, 0) + tcp.open_now  # several peers may share the nameless one
        for series, count in open_now.items():
            series.open_now = count
        return True

    def samples(self, direction: Direction) -> Iterator[tuple[Source, Peer, Sample]]:
        """All series of a direction with who reported them and their peer.

        Reports may come in between two of them: what is new since the beginning is left out.
        """
        for source in list(self.sources.values()):
            for (series_direction, peer), series in list(source.series.items()):
                if series_direction == direction:
                    yield source, peer, Sample(series, source.reported_until_s)

    def expire(self, now_s: float) -> None:
        """Forget what no window can show any more."""
        for key, source in list(self.sources.items()):
            for name, series in list(source.series.items()):
                if now_s - series.last_s > EXPIRY_S:
                    del source.series[name]
                    self._series_count -= 1
            if not source.series and now_s - source.reported_until_s > EXPIRY_S:
                del self.sources[key]

    def statistics(self) -> Statistics:
        return Statistics(len(self.sources), self._series_count)

    def _source(self, key: Key) -> Source | None:
        source = self.sources.get(key)
        if source is None and len(self.sources) < self.max_sources_count:
            source = self.sources[key] = Source(key)
        return source

    def _series(self, source: Source, direction: Direction, peer: Peer, span: Span) -> Series:
        found = source.series.get((direction, peer))
        if found is None and peer != NAMELESS and self._series_count >= self.max_series_count:
            self.overflow_count += 1
            peer = NAMELESS
            found = source.series.get((direction, peer))
        slot = int(span.end_s // SLOT_S)
        if found is None:
            found = Series(born_s=span.start_s, last_s=span.end_s, newest=slot)
            source.series[(direction, peer)] = found
            self._series_count += 1
        found.advance(slot)
        found.last_s = span.end_s
        return found


def _count_http(series: Series, item: HttpSeries, span: Span) -> None:
    series.has_http = True
    counts = [*enumerate(item.latency_ms), (SUCCESS, item.success), (FAILURE, item.failure)]
    _count(series, counts, span)


def _count_tcp(series: Series, item: TcpSeries, span: Span) -> None:
    series.has_tcp = True
    _count(series, [(READ_BYTES, item.read_bytes), (WRITE_BYTES, item.write_bytes), (OPENED, item.opened)], span)


def _count(series: Series, counts: list[tuple[int, int]], span: Span) -> None:
    for column, count in counts:
        if count:
            for slot, share in spread(count, span):
                series.add(column, slot, share)
