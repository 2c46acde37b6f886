"""Many meters made one: a worker tells what it has counted since it last told, the parent adds it up. Pure.

Theory of operation. What travels are differences, so what a worker has told stays counted whatever becomes of it: no
merged counter ever goes backwards. What is true only now (open connections, gauges) is kept for each worker, and goes
with it. A series is introduced once, with its labels, and named by a number from then on.
"""

from collections.abc import Callable, Iterable
from itertools import count
from typing import Final

import msgspec

from contract.report import Peer
from proxy.meter import HttpSeries, Labels, Meter, StatusSeries, TcpSeries

OWNER_DIED: Final = "EOWNERDEAD"
"""The errno of connections that a worker took with it."""

_FIRST: Final = frozenset(("process_start_time_seconds", "discovery_connected"))
"""Gauges of which the least is everybody's: all must be connected, and the first start is the start."""
_LAST: Final = frozenset(("discovery_age_seconds", "buffer_high_bytes", "process_max_fds"))
"""Gauges of which the greatest is everybody's. All others are sums."""


class StatusNews(msgspec.Struct, array_like=True):
    """Responses of one status."""

    status: int
    grpc: str
    success: bool
    count: int
    sum_ms: float
    buckets: list[int]


class HttpNews(msgspec.Struct, array_like=True):
    """Requests of one series."""

    number: int
    requests: int
    statuses: list[StatusNews]


class TcpNews(msgspec.Struct, array_like=True):
    """Connections of one series; `open_now` is absolute."""

    number: int
    opened: int
    open_now: int
    read_bytes: int
    write_bytes: int
    closed: dict[str, int]


class Introduction(msgspec.Struct, array_like=True):
    """What a number stands for from now on."""

    number: int
    is_http: bool
    labels: Labels
    peer: Peer | None


class News(msgspec.Struct, array_like=True, tag="news"):
    """What one worker has counted since its last news."""

    asked: int
    """The question that it answers; 0: told unasked."""
    introductions: list[Introduction]
    http: list[HttpNews]
    tcp: list[TcpNews]
    gone: list[int]
    counters: list[tuple[str, Labels, int]]
    overflows: int
    gauges: list[tuple[str, float, str]]
    """(name, value now, meaning); unasked only those that count."""

    @property
    def is_empty(self) -> bool:
        return not (self.introductions or self.http or self.tcp or self.gone or self.counters or self.overflows)


class _ToldHttp:
    __slots__ = ("number", "requests", "responses", "statuses")

    def __init__(self, number: int) -> None:
        self.number = number
        self.requests = 0
        self.responses = 0
        self.statuses: dict[tuple[int, str], tuple[int, float, list[int]]] = {}


class _ToldTcp:
    __slots__ = ("closed", "now", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.now = (0, 0, 0, 0)
        self.closed: dict[str, int] = {}


class Teller:
    """The worker's side: remembers what it has told of a meter."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._numbers = count()
        self._http: dict[HttpSeries, _ToldHttp] = {}
        self._tcp: dict[TcpSeries, _ToldTcp] = {}
        self._counters: dict[tuple[str, Labels], int] = {}
        self._overflows = 0

    def news(self, asked: int) -> News:
        """Tell what is new; the caller delivers it, or loses it."""
        meter = self._meter
        meter.fold()
        introductions: list[Introduction] = []
        http = [told for series in meter.http.values() if (told := self._of_http(series, introductions))]
        tcp = [news for connections in meter.tcp.values() if (news := self._of_tcp(connections, introductions))]
        gone = [self._http.pop(s).number for s in list(self._http) if meter.http.get(s.labels) is not s]
        gone += [self._tcp.pop(s).number for s in list(self._tcp) if meter.tcp.get(s.labels) is not s]
        counters = []
        for key, number in meter.counters.items():
            if number != self._counters.get(key, 0):
                counters.append((*key, number - self._counters.get(key, 0)))
                self._counters[key] = number
        overflows, self._overflows = meter.overflows_count - self._overflows, meter.overflows_count
        gauges = [
            (name, float(read()), meaning)
            for name, (read, meaning) in meter.gauges.items()
            if asked or name.endswith("_total")  # the others are dear to read, and worth nothing later
        ]
        return News(asked, introductions, http, tcp, gone, counters, overflows, gauges)

    def _of_http(self, series: HttpSeries, introductions: list[Introduction]) -> HttpNews | None:
        told = self._http.get(series)
        if told is None:
            told = self._http[series] = _ToldHttp(next(self._numbers))
            introductions.append(Introduction(told.number, True, series.labels, _peer(series.peer)))
        responses = sum(found.count for found in series.by_status.values())
        if (series.requests, responses) == (told.requests, told.responses):
            return None
        requests = series.requests - told.requests
        told.requests, told.responses = series.requests, responses
        statuses = [news for key, found in series.by_status.items() if (news := _status(told, key, found))]
        return HttpNews(told.number, requests, statuses)

    def _of_tcp(self, series: TcpSeries, introductions: list[Introduction]) -> TcpNews | None:
        told = self._tcp.get(series)
        if told is None:
            told = self._tcp[series] = _ToldTcp(next(self._numbers))
            introductions.append(Introduction(told.number, False, series.labels, _peer(series.peer)))
        now = (series.opened, series.read_bytes, series.write_bytes, series.open_now)
        if now == told.now:
            return None
        then, told.now = told.now, now
        closed = {e: n - told.closed.get(e, 0) for e, n in series.closed.items() if n != told.closed.get(e, 0)}
        told.closed = dict(series.closed)
        return TcpNews(told.number, now[0] - then[0], series.open_now, now[1] - then[1], now[2] - then[2], closed)


def _peer(peer: object) -> Peer | None:
    return peer if isinstance(peer, Peer) else None


def _status(told: _ToldHttp, key: tuple[int, str], found: StatusSeries) -> StatusNews | None:
    count_then, sum_then, buckets_then = told.statuses.get(key, (0, 0.0, [0] * len(found.buckets)))
    if found.count == count_then:
        return None
    buckets = [new - old for new, old in zip(found.buckets, buckets_then, strict=True)]
    told.statuses[key] = (found.count, found.sum_ms, list(found.buckets))
    return StatusNews(*key, found.success, found.count - count_then, found.sum_ms - sum_then, buckets)


class _Source:
    """What the parent knows of one worker."""

    __slots__ = ("gauges", "http", "open_now", "tcp")

    def __init__(self) -> None:
        self.http: dict[int, HttpSeries] = {}
        self.tcp: dict[int, TcpSeries] = {}
        self.open_now: dict[int, int] = {}
        self.gauges: dict[str, float] = {}


class Merged:
    """The parent's side: one meter that holds what all workers have told."""

    def __init__(self, meter: Meter) -> None:
        self.meter: Final = meter
        self._sources: dict[int, _Source] = {}
        self._kept: dict[str, float] = {}
        """What workers that are gone have added to gauges that are counters."""
        self._own: dict[str, Callable[[], float]] = {}
        """What the parent itself adds to the workers'."""

    def add(self, name: str, read: Callable[[], float], meaning: str) -> None:
        """Show a gauge of the parent's own instead of the workers'."""
        self.meter.gauges[name] = (read, meaning)

    def join(self, name: str, read: Callable[[], float], meaning: str) -> None:
        """Show a gauge of the parent's own together with the workers'."""
        self._own[name] = read
        self.add(name, _Gauge(self, name), meaning)

    def apply(self, worker: int, news: News) -> None:
        """Add what a worker tells. Workers are told apart by number, never used again."""
        source = self._sources.setdefault(worker, _Source())
        for new in news.introductions:
            peer = new.peer or Peer()
            if new.is_http:
                source.http[new.number] = self.meter.take_http(new.labels, peer)
            else:
                source.tcp[new.number] = self.meter.take_tcp(new.labels, peer)
        for http in news.http:
            _add_http(source.http[http.number], http)
        for tcp in news.tcp:
            _add_tcp(source.tcp[tcp.number], tcp, source.open_now)
        for number in news.gone:
            self._give(source, number)
        for name, labels, counted in news.counters:
            self.meter.count(name, labels, counted)
        self.meter.overflows_count += news.overflows
        for name, value, meaning in news.gauges:
            source.gauges[name] = value
            if name not in self.meter.gauges:
                self.meter.gauges[name] = (_Gauge(self, name), meaning)

    def lose(self, worker: int) -> None:
        """Forget what was true only while the worker ran; its open connections have ended with it."""
        source = self._sources.pop(worker, None)
        if source is None:
            return
        for number, open_now in source.open_now.items():
            if open_now:
                series = source.tcp[number]
                series.open_now -= open_now
                series.closed[OWNER_DIED] = series.closed.get(OWNER_DIED, 0) + open_now
        for number in (*source.http, *source.tcp):
            series_of = source.http.get(number) or source.tcp[number]
            self.meter.give(series_of)
        for name, value in source.gauges.items():
            if name.endswith("_total"):
                self._kept[name] = self._kept.get(name, 0.0) + value

    def _give(self, source: _Source, number: int) -> None:
        series = source.http.pop(number, None) or source.tcp.pop(number)
        source.open_now.pop(number, None)
        self.meter.give(series)

    def gauge(self, name: str) -> float:
        """Read a gauge of all workers."""
        values = [source.gauges[name] for source in self._sources.values() if name in source.gauges]
        if name in self._own:
            values.append(self._own[name]())
        if name in _FIRST:
            return min(values, default=0.0)
        if name in _LAST:
            return max(values, default=0.0)
        return sum(values, self._kept.get(name, 0.0))


class _Gauge:
    """Reads one merged gauge."""

    __slots__ = ("_merged", "_name")

    def __init__(self, merged: Merged, name: str) -> None:
        self._merged = merged
        self._name = name

    def __call__(self) -> float:
        return self._merged.gauge(self._name)


def _add_http(series: HttpSeries, news: HttpNews) -> None:
    series.requests += news.requests
    for told in news.statuses:
        found = series.status(told.status, told.success, told.grpc)
        found.count += told.count
        found.sum_ms += told.sum_ms
        found.buckets = [have + more for have, more in zip(found.buckets, told.buckets, strict=True)]


def _add_tcp(series: TcpSeries, news: TcpNews, open_now: dict[int, int]) -> None:
    series.opened += news.opened
    series.read_bytes += news.read_bytes
    series.write_bytes += news.write_bytes
    series.open_now += news.open_now - open_now.get(news.number, 0)
    open_now[news.number] = news.open_now
    for errno, counted in news.closed.items():
        series.closed[errno] = series.closed.get(errno, 0) + counted


def resident_bytes(pids: Iterable[int]) -> float:
    """Memory of processes that share much of it: each page divided among those that have it (PSS; proc(5))."""
    return float(sum(map(_pss_bytes, pids)))


def _pss_bytes(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return 0  # it has just ended
