"""What all sidecars reported: sources, their series, duplicates, bounds. Pure; time is an argument.

Bounded in sidecars, in series and in bytes, of all and of each. Beyond a bound a sidecar's further peers are counted
together as one nameless peer: totals stay true, only the who is lost, and the loss is counted. What goes first, when
all is full: the sidecars of pods that no longer exist, the longest silent first; then the named peers of the sidecar
that holds most. A pod that exists never loses its place to one that does not.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from contract.metrics import LATENCY_BUCKETS_MS
from contract.report import Direction, HttpSeries, Peer, Report, TcpSeries
from controller.objects import NO_OWNER, Key, Owner
from controller.windows import (
    COLUMNS_COUNT,
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
    deal,
    plan,
)

NAMELESS: Final = Peer()
EXPIRY_S: Final = WINDOW_S + 60.0
"""A series silent for this long is in no window any more."""
INSTANCES_COUNT: Final = 4
"""Instances of one sidecar (its container restarts) whose sequences are remembered."""
SEQUENCES_COUNT: Final = 64
"""Sequences below the highest that are told apart; older ones count as seen."""
SOURCE_BYTES: Final = 8 << 20
"""Memory of one sidecar's named series: some 400 busy peers, 2000 quiet ones."""
ALL_BYTES: Final = 128 << 20
"""Memory of all series: a quarter of the container's limit."""

Name = tuple[Direction, Peer]


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
    series: dict[Name, Series] = field(default_factory=dict)
    instances: dict[str, Sequences] = field(default_factory=dict)
    held_bytes: int = 0
    """Memory of its series."""

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
class Fold:
    """What one report counts without a name, by direction: written once, however many peers it is made of."""

    counts: dict[Direction, list[int]] = field(default_factory=dict)
    open_now: dict[Direction, int] = field(default_factory=dict)
    has_http: bool = False

    def add(self, item: HttpSeries | TcpSeries) -> None:
        counts = self.counts.setdefault(item.direction, [0] * COLUMNS_COUNT)
        for column, count in _counts(item):
            counts[column] += count
        if isinstance(item, TcpSeries):
            self.open_now[item.direction] = self.open_now.get(item.direction, 0) + item.open_now
        else:
            self.has_http = True


@dataclass(slots=True, eq=False)
class Traffic:
    """All sources; the only writer of series."""

    max_sources_count: int
    max_series_count: int
    max_bytes: int = ALL_BYTES
    max_source_bytes: int = SOURCE_BYTES
    is_live: Callable[[Key], bool] = lambda key: True
    """Whether a pod exists, as far as is known."""
    overflow_count: int = 0
    """Series of reports that had to be counted under the nameless peer, or not at all."""
    shed_count: int = 0
    """Series that were given up for others."""
    held_bytes: int = 0
    sources: dict[Key, Source] = field(default_factory=dict)
    _series_count: int = 0

    def ingest(self, report: Report, owner: Owner, now_s: float) -> bool:
        """Count a report that arrived now; False when it had been counted before. Otherwise as `begin`."""
        steps = self.begin(report, owner, now_s)
        for _ in steps or ():
            pass
        return steps is not None

    def begin(self, report: Report, owner: Owner, now_s: float) -> Iterator[None] | None:
        """Take a report that arrived now; None when it had been counted before, else the steps that count it.

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
            return iter(())
        is_restarted = report.instance not in source.instances
        if not source.is_new(report.instance, report.sequence):
            return None
        if is_restarted:
            for series in source.series.values():
                series.open_now = 0
        source.owner = source.owner if owner == NO_OWNER else owner
        end_s = max(0.0, now_s - report.age_s)
        span = Span(max(0.0, end_s - report.interval_s), end_s)
        source.reported_until_s = max(source.reported_until_s, end_s)
        return self._count(source, report, span)

    def _count(self, source: Source, report: Report, span: Span) -> Iterator[None]:
        points, fold = plan(span), Fold()
        open_now: dict[Series, int] = {}
        items: tuple[HttpSeries | TcpSeries, ...] = (*report.http, *report.tcp)
        for item in items:
            series = self._series(source, (item.direction, item.peer), span)
            if series is None:
                self.overflow_count += 1
                fold.add(item)
            else:
                self._write(source, series, list(_counts(item)), points)
                if isinstance(item, TcpSeries):
                    open_now[series] = open_now.get(series, 0) + item.open_now
                else:
                    series.has_http = True
            yield
        for direction, counts in fold.counts.items():
            series = self._add(source, (direction, NAMELESS), span)
            self._write(source, series, list(enumerate(counts)), points)
            series.has_http = series.has_http or fold.has_http
            if direction in fold.open_now:
                open_now[series] = open_now.get(series, 0) + fold.open_now[direction]
        for series, count in open_now.items():
            series.has_tcp, series.open_now = True, count
        if self.held_bytes > self.max_bytes:
            self._make_room()

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
                    self._drop(source, name)
            if not source.series and now_s - source.reported_until_s > EXPIRY_S:
                del self.sources[key]

    def statistics(self) -> Statistics:
        return Statistics(len(self.sources), self._series_count)

    def _source(self, key: Key) -> Source | None:
        source = self.sources.get(key)
        if source is None:
            if len(self.sources) >= self.max_sources_count and not (self.is_live(key) and self._forget_one_gone()):
                return None
            source = self.sources[key] = Source(key)
        return source

    def _series(self, source: Source, name: Name, span: Span) -> Series | None:
        """The series of a name, made where there is room; None where its counts lose the name."""
        if name not in source.series and name[1] != NAMELESS:
            if source.held_bytes >= self.max_source_bytes or self._series_count >= self.max_series_count:
                return None
            if self.held_bytes >= self.max_bytes:
                return None
        return self._add(source, name, span)

    def _add(self, source: Source, name: Name, span: Span) -> Series:
        slot = int(span.end_s // SLOT_S)
        found = source.series.get(name)
        if found is None:
            found = Series(born_s=span.start_s, last_s=span.end_s, newest=slot)
            source.series[name] = found
            self._series_count += 1
            self._weigh(source, found.held_bytes)
        found.advance(slot)
        found.born_s = min(found.born_s, span.start_s)
        found.last_s = max(found.last_s, span.end_s)
        return found

    def _write(
        self, source: Source, series: Series, counts: list[tuple[int, int]], points: list[tuple[int, float]]
    ) -> None:
        before_bytes = series.held_bytes
        for column, count in counts:
            if count:
                for slot, share in deal(count, points):
                    series.add(column, slot, share)
        self._weigh(source, series.held_bytes - before_bytes)
        if source.held_bytes > 2 * self.max_source_bytes:
            self._shed(source)  # its counts grew wider than those that its names were given room for

    def _weigh(self, source: Source, more_bytes: int) -> None:
        source.held_bytes += more_bytes
        self.held_bytes += more_bytes

    def _drop(self, source: Source, name: Name) -> None:
        series = source.series.pop(name)
        self._series_count -= 1
        self._weigh(source, -series.held_bytes)

    def _shed(self, source: Source) -> None:
        """Give up a sidecar's named series."""
        for name in [name for name in source.series if name[1] != NAMELESS]:
            self._drop(source, name)
            self.shed_count += 1

    def _make_room(self) -> None:
        """Come below the bound again: see the module's text."""
        while self.held_bytes > self.max_bytes and self._forget_one_gone():
            pass
        while self.held_bytes > self.max_bytes:
            largest = max(self.sources.values(), key=lambda source: source.held_bytes)
            before_bytes = self.held_bytes
            self._shed(largest)
            if self.held_bytes == before_bytes:
                return  # nothing but nameless ones are left: two for each sidecar

    def _forget_one_gone(self) -> bool:
        """Forget of the sidecars whose pods no longer exist the longest silent; False where all exist."""
        gone = (source for source in self.sources.values() if not self.is_live(source.key))
        found = min(gone, key=lambda source: source.reported_until_s, default=None)
        if found is None:
            return False
        for name in list(found.series):
            self._drop(found, name)
            self.shed_count += 1
        del self.sources[found.key]
        return True


def _counts(item: HttpSeries | TcpSeries) -> Iterator[tuple[int, int]]:
    if isinstance(item, HttpSeries):
        yield from enumerate(item.latency_ms)
        yield SUCCESS, item.success
        yield FAILURE, item.failure
    else:
        yield READ_BYTES, item.read_bytes
        yield WRITE_BYTES, item.write_bytes
        yield OPENED, item.opened
