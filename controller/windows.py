"""Rolling windows: what sidecars reported, in buckets of ten seconds over one hour. Pure; time is an argument.

A series is one sidecar's traffic in one direction with one peer. It holds a ring of SLOTS_COUNT counts for every
number that was ever above zero (most latency buckets never are), in the narrowest array that fits and widened when
it must: some 6 KB for a quiet series, 20 KB for a busy one.

A report's deltas are spread over the slots that its interval covers, in proportion to the overlap and without
losing a count (largest remainders last). So a window does not jump by a whole report when a slot begins. Of a long
interval (after an outage) only the newest slots get shares of their own; the older ones share in groups that grow with
their age, because windows end at the present and cut nothing finer. So the work of a count is bounded.

A window of W seconds ends where all live sidecars of the question have reported to, not at the present moment:
the last seconds, of which nothing is known yet, would only dilute it. It begins W earlier, or when the oldest series
of the question was first seen if that is later: twenty seconds after traffic began, the rate over one minute is
the rate of those twenty seconds, as an operator who watches a roll-out expects; a workload that goes silent, and
one that resumes, are averaged over the whole window, as in Prometheus. A slot that the window cuts
counts by its share.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from contract.metrics import LATENCY_BUCKETS_MS
from contract.report import REPORT_INTERVAL_S

SLOT_S: Final = 10.0
"""Width of a bucket."""

WINDOW_S: Final = 3600.0
"""The longest window that can be asked for."""

LIVE_S: Final = 1.5 * REPORT_INTERVAL_S
"""A sidecar that reported within this time is live: its next report is due, its last is not too old to wait for."""

SLOTS_COUNT: Final = int(WINDOW_S / SLOT_S) + 4
"""One slot more for a cut at each end, and those by which a window may end before now (LIVE_S)."""

EXACT_SLOTS_COUNT: Final = 16
"""The newest slots of a long interval that get shares of their own; a group is as wide as its age in slots by this."""

LATENCY_COUNT: Final = len(LATENCY_BUCKETS_MS) + 1

# Columns of a series; the latency buckets take 0 to LATENCY_COUNT - 1.
SUCCESS: Final = LATENCY_COUNT
FAILURE: Final = LATENCY_COUNT + 1
READ_BYTES: Final = LATENCY_COUNT + 2
WRITE_BYTES: Final = LATENCY_COUNT + 3
OPENED: Final = LATENCY_COUNT + 4
COLUMNS_COUNT: Final = LATENCY_COUNT + 5

_WIDER: Final = {"B": "H", "H": "I", "I": "Q"}

SERIES_BYTES: Final = 2048
"""Memory of a series without columns: itself, its name, its places in tables."""
COLUMN_BYTES: Final = 128
"""Memory of a column beside its counts."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time in seconds of the caller's clock."""

    start_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        return self.end_s - self.start_s


def plan(span: Span) -> list[tuple[int, float]]:
    """Divide a span once for all counts of a report: slots, and the part of the span up to the end of each."""
    first, last = int(span.start_s // SLOT_S), int(span.end_s // SLOT_S)
    if first >= last or span.length_s <= 0:
        return [(last, 1.0)]
    points: list[tuple[int, float]] = []
    upper, width = last, 1
    while upper >= first:
        lower = max(first, upper - width + 1)
        covered_s = min(span.end_s, (upper + 1) * SLOT_S) - span.start_s
        points.append(((lower + upper) // 2, covered_s / span.length_s))
        upper = lower - 1
        width = max(1, (last - upper) // EXACT_SLOTS_COUNT)
    points.reverse()
    return points


def deal(count: int, points: Sequence[tuple[int, float]]) -> list[tuple[int, int]]:
    """Split a count over the points of a plan: pairs of slot number and share, which add up to `count`."""
    shares, given = [], 0
    for slot, part in points:
        upto = round(count * part)
        shares.append((slot, upto - given))
        given = upto
    return shares


def spread(count: int, span: Span) -> list[tuple[int, int]]:
    """Split a count over the slots of a span."""
    return deal(count, plan(span))


@dataclass(slots=True, eq=False)
class Series:
    """Counts of one (sidecar, direction, peer) in slots of SLOT_S."""

    born_s: float
    """Start of the first interval reported."""
    last_s: float
    """When it was last named in a report."""
    newest: int
    """Number of the newest slot that was written; the ring holds it and those before it."""
    open_now: int = 0
    has_http: bool = False
    has_tcp: bool = False
    _columns: dict[int, "array[int]"] = field(default_factory=dict)

    def advance(self, slot: int) -> None:
        """Make `slot` the newest: what the ring held for the slots between is cleared."""
        if slot <= self.newest:
            return
        stale = range(max(self.newest + 1, slot - SLOTS_COUNT + 1), slot + 1)
        for column in self._columns.values():
            for number in stale:
                column[number % SLOTS_COUNT] = 0
        self.newest = slot

    def add(self, column: int, slot: int, count: int) -> None:
        """Count in a slot, not newer than `newest`; what is too old for the ring is dropped."""
        if count == 0 or slot <= self.newest - SLOTS_COUNT:
            return
        values = self._columns.get(column)
        if values is None:
            values = self._columns[column] = array("B", bytes(SLOTS_COUNT))
        index = slot % SLOTS_COUNT
        total = values[index] + count
        while total >= 1 << (8 * values.itemsize) and values.typecode in _WIDER:
            values = self._columns[column] = array(_WIDER[values.typecode], values)
        values[index] = min(total, 2**64 - 1)

    def add_to(self, totals: list[float], span: Span, until_s: float) -> None:
        """Add each column's count within the span to `totals` (COLUMNS_COUNT long).

        `until_s` is until when its sidecar has reported: the newest slot may be known in part only.
        """
        known = Span(self.born_s, until_s)
        first, last = int(span.start_s // SLOT_S), int(span.end_s // SLOT_S)
        oldest = self.newest - SLOTS_COUNT + 1
        low, high = max(first, oldest), min(last, self.newest)
        if low > high:
            return
        head = _share(low, span, known)
        tail = _share(high, span, known)
        for number, values in self._columns.items():
            total = float(_ring_sum(values, low, high))
            total -= (1.0 - head) * values[low % SLOTS_COUNT]
            if high > low:
                total -= (1.0 - tail) * values[high % SLOTS_COUNT]
            totals[number] += total

    @property
    def memory_bytes(self) -> int:
        """Of its counts."""
        return sum(column.itemsize * SLOTS_COUNT for column in self._columns.values())

    @property
    def held_bytes(self) -> int:
        """Of all that it holds, with what Python adds."""
        return SERIES_BYTES + COLUMN_BYTES * len(self._columns) + self.memory_bytes


def _share(slot: int, span: Span, known: Span) -> float:
    """Which part of what is known of the slot lies within the span, 0.0 to 1.0."""
    low_s, high_s = max(slot * SLOT_S, known.start_s), min((slot + 1) * SLOT_S, known.end_s)
    if high_s <= low_s:
        return 1.0  # an instant: it was counted somewhere in here
    return max(0.0, min(high_s, span.end_s) - max(low_s, span.start_s)) / (high_s - low_s)


def _ring_sum(values: "array[int]", first: int, last: int) -> int:
    start, stop = first % SLOTS_COUNT, last % SLOTS_COUNT
    if start <= stop:
        return sum(values[start : stop + 1])
    return sum(values[start:]) + sum(values[: stop + 1])


def quantile(counts: Sequence[float], ratio: float) -> float | None:
    """Estimate a quantile in milliseconds from LATENCY_COUNT bucket counts (not cumulative).

    Linear within a bucket, from 0 in the first; in the last (+Inf) the highest finite bound: as Prometheus'
    histogram_quantile. None for an empty histogram.
    """
    total = sum(counts)
    if total <= 0:
        return None
    rank, below = ratio * total, 0.0
    for index, count in enumerate(counts[:-1]):
        if count > 0 and below + count >= rank:
            low = LATENCY_BUCKETS_MS[index - 1] if index else 0
            return low + (LATENCY_BUCKETS_MS[index] - low) * max(0.0, rank - below) / count
        below += count
    return float(LATENCY_BUCKETS_MS[-1])


@dataclass(frozen=True, slots=True)
class Sample:
    """One series and who reported it."""

    series: Series
    reported_until_s: float
    """Until when its sidecar has reported."""


@dataclass(frozen=True, slots=True)
class Total:
    """What the samples of one question add up to."""

    covered_s: float
    """Seconds of the window that are known; above zero."""
    counts: tuple[float, ...]
    """COLUMNS_COUNT numbers."""
    open_now: int | None
    """Open connections of live sidecars; None when no live one told of any connection."""


def window(samples: Sequence[Sample], window_s: float, now_s: float) -> Span:
    """The stretch of time that stands for the last `window_s` seconds (see the module's text)."""
    live = [sample.reported_until_s for sample in samples if now_s - sample.reported_until_s <= LIVE_S]
    end_s = min(live, default=now_s)
    born_s = min((sample.series.born_s for sample in samples), default=now_s)
    start_s = max(end_s - window_s, min(born_s, end_s - 1.0))  # never less than a second to divide by
    return Span(start_s, end_s)


def total(samples: Sequence[Sample], window_s: float, now_s: float) -> Total:
    """Add up samples over the last `window_s` seconds."""
    span = window(samples, window_s, now_s)
    counts = [0.0] * COLUMNS_COUNT
    for sample in samples:
        sample.series.add_to(counts, span, sample.reported_until_s)
    live = [
        sample.series.open_now
        for sample in samples
        if sample.series.has_tcp and now_s - sample.reported_until_s <= LIVE_S
    ]
    return Total(span.length_s, tuple(counts), sum(live) if live else None)
