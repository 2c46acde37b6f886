"""Counters and fixed-bucket histograms, held by reference where they are counted. Turn: plain attributes, no I/O.

A series is looked up once (when an endpoint or a listener is made), then counted by attribute: no dictionary of
labels on the way of a request. `Meter` owns all series: it bounds their number (what does not fit falls into an
overflow series of its direction), and forgets those that nobody holds and that have not changed for a while.

A series may be lent before it is known whether its labels deserve a place: what it counts belongs to another series,
which takes it over whenever somebody reads (`fold`), until the lent one is adopted.
"""

from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from contract.metrics import LATENCY_BUCKETS_MS

Labels = tuple[tuple[str, str], ...]
"""(name, value) pairs in the order in which they are rendered."""

PROBE_LABELS: Final[Labels] = (("route_kind", "default"), ("route_name", "probe"))
"""Mark the series of the kubelet's probes: they are nobody's traffic, so no report tells of them (Linkerd's labels)."""

GRPC_STATUSES: Final = frozenset(map(str, range(17)))
"""All that gRPC has (OK to UNAUTHENTICATED): a server that makes up others makes no series of its own."""

GRPC_UNKNOWN: Final = "2"

MAX_STATUSES_COUNT: Final = 64
"""Statuses of one series; HTTP has registered about as many, and no service uses half of them."""

CLASSES_COUNT: Final = 9
"""Statuses up to here are classes: 4 is 4xx."""

_BUCKETS: Final = [float(bound_ms) for bound_ms in LATENCY_BUCKETS_MS]
_BUCKETS_COUNT: Final = len(_BUCKETS) + 1


class StatusSeries:
    """Responses of one status: their number and their latency to the first byte."""

    __slots__ = ("buckets", "count", "grpc", "status", "success", "sum_ms")

    def __init__(self, status: int, success: bool, grpc: str) -> None:
        self.status = status
        self.success = success
        self.grpc = grpc
        """The `grpc-status` of a gRPC response ("0" to "16"); "" when it is none."""
        self.count = 0
        self.sum_ms = 0.0
        self.buckets = [0] * _BUCKETS_COUNT
        """One count a bucket and one for +Inf; not cumulative."""

    def add(self, other: "StatusSeries") -> None:
        """Count what another has counted too."""
        self.count += other.count
        self.sum_ms += other.sum_ms
        for place in range(_BUCKETS_COUNT):
            self.buckets[place] += other.buckets[place]

    def record(self, latency_ms: float) -> None:
        self.count += 1
        self.sum_ms += latency_ms
        place = 0  # fast: most are in the first few, which a loop finds sooner than a call (bench case `http2`)
        for bound_ms in _BUCKETS:
            if latency_ms <= bound_ms:
                break
            place += 1
        self.buckets[place] += 1


class HttpSeries:
    """Requests of one direction to one peer."""

    __slots__ = ("by_status", "holders", "labels", "peer", "requests", "seen", "seen_s")

    def __init__(self, labels: Labels, peer: object) -> None:
        self.labels = labels
        self.peer = peer
        """contract.report.Peer, for reports."""
        self.holders = 0
        self.requests = 0
        self.seen = -1
        """What `touched` was when Meter.expire last saw a change, at `seen_s`."""
        self.seen_s = 0.0
        self.by_status: dict[tuple[int, str], StatusSeries] = {}

    @property
    def touched(self) -> int:
        return self.requests

    @property
    def is_live(self) -> bool:
        return False

    def status(self, status: int, success: bool, grpc: str = "") -> StatusSeries:
        """Find the series of a status, or make it.

        A `grpc` that gRPC does not know counts as "2" (UNKNOWN). Servers may make up statuses of HTTP: beyond
        MAX_STATUSES_COUNT those that are new count by their class alone.
        """
        found = self.by_status.get((status, grpc))
        if found is None:
            if grpc and grpc not in GRPC_STATUSES:
                return self.status(status, success, GRPC_UNKNOWN)
            if len(self.by_status) >= MAX_STATUSES_COUNT and status > CLASSES_COUNT:
                return self.status(status // 100, success, grpc)
            found = self.by_status[status, grpc] = StatusSeries(status, success, grpc)
        return found

    def take_over(self, other: "HttpSeries") -> None:
        """Move another's counts here."""
        self.requests += other.requests
        other.requests = 0
        for told in other.by_status.values():
            self.status(told.status, told.success, told.grpc).add(told)
        other.by_status.clear()


class TcpSeries:
    """Connections of one direction with one peer."""

    __slots__ = (
        "closed",
        "holders",
        "labels",
        "open_now",
        "open_told",
        "opened",
        "peer",
        "read_bytes",
        "seen",
        "seen_s",
        "write_bytes",
    )

    def __init__(self, labels: Labels, peer: object) -> None:
        self.labels = labels
        self.peer = peer
        self.holders = 0
        self.opened = 0
        self.open_now = 0
        self.open_told = 0
        """Of a lent series: how many of these the one that reads for it counts too."""
        self.read_bytes = 0
        self.write_bytes = 0
        self.closed: dict[str, int] = {"": 0}
        """By errno name; "" for an orderly end, which is there from the start: made at the end of a burst, it
        would outlive it in the middle of its memory (proxy.memory)."""
        self.seen = -1
        self.seen_s = 0.0

    @property
    def touched(self) -> int:
        return self.opened + self.read_bytes + self.write_bytes

    @property
    def is_live(self) -> bool:
        return self.open_now > 0

    @property
    def has_news(self) -> bool:
        """Whether another that reads for it lacks something."""
        return self.touched != 0 or self.open_now != self.open_told or len(self.closed) > 1 or self.closed[""] != 0

    def take_over(self, other: "TcpSeries") -> None:
        """Move another's counts here; its open connections stay its own, and count here too."""
        self.opened += other.opened
        self.read_bytes += other.read_bytes
        self.write_bytes += other.write_bytes
        other.opened = other.read_bytes = other.write_bytes = 0
        self.open_now += other.open_now - other.open_told
        other.open_told = other.open_now
        for errno, count in other.closed.items():
            self.closed[errno] = self.closed.get(errno, 0) + count
        other.closed = {"": 0}

    def close(self, errno: str) -> None:
        self.open_now -= 1
        self.closed[errno] = self.closed.get(errno, 0) + 1


S = TypeVar("S", HttpSeries, TcpSeries)


class Meter:
    """All series and counters of the process."""

    def __init__(self, max_series_count: int) -> None:
        self._max_count = max_series_count
        self.http: dict[Labels, HttpSeries] = {}
        self.tcp: dict[Labels, TcpSeries] = {}
        self.counters: dict[tuple[str, Labels], int] = {}
        """Rare events, counted by name and labels."""
        self.gauges: dict[str, tuple[Callable[[], float], str]] = {}
        """Name -> (how to read it, what it means)."""
        self._lent_http: dict[HttpSeries, Labels] = {}
        self._lent_tcp: dict[TcpSeries, Labels] = {}
        """Series that have no place of their own, and whose they are."""
        self.overflows_count = 0
        self.strangers_count = 0
        """Destinations outside of the cluster that have series of their own: bounded by proxy.targets."""
        self.names_count = 0
        """Series that TLS clients have named (the label `sni`, always the last): bounded by proxy.naming."""

    def take_http(self, labels: Labels, peer: object) -> HttpSeries:
        """Hold a series of requests; give it back with `give`."""
        return self._take(self.http, HttpSeries, labels, peer)

    def take_tcp(self, labels: Labels, peer: object) -> TcpSeries:
        return self._take(self.tcp, TcpSeries, labels, peer)

    def _take(self, table: dict[Labels, S], make: type[S], labels: Labels, peer: object) -> S:
        series = table.get(labels)
        if series is None:
            if len(table) >= self._max_count - 4 and not _is_overflow(labels):
                self.overflows_count += 1
                return self._take(table, make, overflow(labels), peer.__class__())
            series = table[labels] = make(labels, peer)
        series.holders += 1
        return series

    def lend_http(self, labels: Labels, peer: object, until: Labels) -> HttpSeries:
        """Hold a series of requests whose counts belong to `until`, unless it has a place already."""
        if labels in self.http:
            return self.take_http(labels, peer)
        series = HttpSeries(labels, peer)
        series.holders = 1
        self._lent_http[series] = until
        return series

    def lend_tcp(self, labels: Labels, peer: object, until: Labels) -> TcpSeries:
        if labels in self.tcp:
            return self.take_tcp(labels, peer)
        series = TcpSeries(labels, peer)
        series.holders = 1
        self._lent_tcp[series] = until
        return series

    def adopt_http(self, series: HttpSeries) -> None:
        """Give a lent series the place that its labels say."""
        if series in self._lent_http and self._has_place(self.http, self._lent_http, series):
            del self._lent_http[series]
            self.http[series.labels] = series

    def adopt_tcp(self, series: TcpSeries) -> None:
        until = self._lent_tcp.get(series)
        if until is None:
            return
        if series.open_told:
            self._reader(self.tcp, TcpSeries, until, series).open_now -= series.open_told
            series.open_told = 0
        if self._has_place(self.tcp, self._lent_tcp, series):
            del self._lent_tcp[series]
            self.tcp[series.labels] = series

    def _has_place(self, table: dict[Labels, S], lent: dict[S, Labels], series: S) -> bool:
        if series.labels in table:
            lent[series] = series.labels  # another one holds the place, and takes over what this one counts
            return False
        if len(table) >= self._max_count - 4:
            self.overflows_count += 1
            lent[series] = overflow(series.labels)
            return False
        return True

    def place_of(self, series: TcpSeries) -> Labels:
        """Give the labels under which a series is read now."""
        return self._lent_tcp.get(series, series.labels)

    def fold(self) -> None:
        """Let lent series' counts go over to where they are read; call it before anybody reads."""
        for http, labels in list(self._lent_http.items()):
            if http.requests or http.by_status:
                self._reader(self.http, HttpSeries, labels, http).take_over(http)
            if http.holders <= 0:
                del self._lent_http[http]
        for tcp, labels in list(self._lent_tcp.items()):
            if tcp.has_news:
                self._reader(self.tcp, TcpSeries, labels, tcp).take_over(tcp)
            if tcp.holders <= 0 and not tcp.open_now:
                del self._lent_tcp[tcp]

    def _reader(self, table: dict[Labels, S], make: type[S], labels: Labels, lent: S) -> S:
        series = self._take(table, make, labels, lent.peer)
        series.holders -= 1
        return series

    def give(self, series: HttpSeries | TcpSeries) -> None:
        series.holders -= 1

    def count(self, name: str, labels: Labels = (), number: int = 1) -> None:
        """Count rare events; labels must come from a closed set of words, or they are left out beyond a bound."""
        key = (name, labels)
        if key not in self.counters and len(self.counters) >= self._max_count and labels:
            self.overflows_count += 1
            key = (name, ())
        self.counters[key] = self.counters.get(key, 0) + number

    def expire(self, now_s: float, idle_s: float) -> None:
        """Forget series that nobody holds and that have not changed for `idle_s`."""
        self.fold()
        self._expire(self.http, now_s, idle_s)
        self._expire(self.tcp, now_s, idle_s)

    def _expire(self, table: dict[Labels, S], now_s: float, idle_s: float) -> None:
        for labels, series in list(table.items()):
            if series.touched != series.seen or series.holders or series.is_live:
                series.seen = series.touched
                series.seen_s = now_s
            elif now_s - series.seen_s >= idle_s:
                del table[labels]
                self.names_count -= labels[-1][0] == "sni"

    def statistics(self) -> Iterator[tuple[str, float]]:
        """Gauges, read now."""
        for name, (read, _meaning) in self.gauges.items():
            yield name, read()


def overflow(labels: Labels) -> Labels:
    """Name the series that stands for all that did not fit: direction and peer stay, the rest is one bucket."""
    kept = tuple(pair for pair in labels if pair[0] in ("direction", "peer"))
    return (*kept, ("target_addr", "overflow"))


def _is_overflow(labels: Labels) -> bool:
    return ("target_addr", "overflow") in labels
