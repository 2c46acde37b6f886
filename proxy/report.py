"""Tells the controller what was counted since it was last told. Waits.

A report that got no answer is sent again under the same sequence number before the next one is made, so the
controller counts it once, and with its age, so that it is dated to when it was made; what is counted meanwhile comes
with the next.
"""

from collections.abc import Callable, Iterator
from operator import add, sub
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from contract.metrics import LATENCY_BUCKETS_MS
from contract.report import MAX_SERIES_COUNT, REPORT_PATH, HttpSeries, Peer, Report, TcpSeries
from proxy import meter
from proxy.model import Direction

if TYPE_CHECKING:
    import httpx

FIRST_S: Final = 2.0
"""Seconds until the first report: a new pod shows up soon."""

TIMEOUT_S: Final = 5.0

MAX_AGE_S: Final = 86400.0
"""The contract's bound; no window reaches back as far."""

_Key = tuple[Direction, Peer]
_HttpTotals = tuple[int, int, tuple[int, ...], float]
"""Successes, failures, buckets, sum of latencies in milliseconds."""
_TcpTotals = tuple[int, int, int, int]
"""Opened, closed, read bytes, written bytes."""

_NO_HTTP: Final[_HttpTotals] = (0, 0, (0,) * (len(LATENCY_BUCKETS_MS) + 1), 0.0)
_NO_TCP: Final[_TcpTotals] = (0, 0, 0, 0)


def http_totals(series: meter.HttpSeries) -> _HttpTotals:
    """Sum a series over its statuses."""
    success, failure, buckets, sum_ms = _NO_HTTP
    for found in series.by_status.values():
        success += found.count * found.success
        failure += found.count * (not found.success)
        buckets = tuple(map(add, buckets, found.buckets))
        sum_ms += found.sum_ms
    return success, failure, buckets, sum_ms


def tcp_totals(series: meter.TcpSeries) -> _TcpTotals:
    """Sum a series over its ends."""
    return series.opened, sum(series.closed.values()), series.read_bytes, series.write_bytes


def key_of(series: meter.HttpSeries | meter.TcpSeries) -> _Key:
    """Whom a series is told of."""
    direction: Direction = "inbound" if ("direction", "inbound") in series.labels else "outbound"
    return direction, series.peer if isinstance(series.peer, Peer) else Peer()


def is_told(series: meter.TcpSeries) -> bool:
    """An inbound sidecar tells of its clients, an outbound one of its servers."""
    return ("peer", "src" if ("direction", "inbound") in series.labels else "dst") in series.labels


class Reporter:
    """Makes reports and sends them."""

    def __init__(
        self,
        client: "httpx.AsyncClient",
        identity: tuple[str, str],
        instance: str,
        counted: meter.Meter,
        clock: Callable[[], float],
        log: Any,
    ) -> None:
        self.client = client
        self._namespace, self._pod = identity
        self._instance = instance
        self._meter = counted
        self._clock = clock
        self._log = log
        self._http: dict[meter.HttpSeries, _HttpTotals] = {}
        self._tcp: dict[meter.TcpSeries, _TcpTotals] = {}
        self._since_s = clock()
        self._sequence = 0
        self._unsent: Report | None = None
        self._is_failing = False

    async def run(self, interval_s: float, random: Callable[[], float]) -> None:
        """Report for ever."""
        await trio.sleep(min(FIRST_S, interval_s) * (0.5 + 0.5 * random()))
        while True:
            await self.send()
            await trio.sleep(interval_s * (0.9 + 0.2 * random()))

    async def send(self) -> bool:
        """Send what is still unsent, then what is new; tell whether all was taken."""
        if self._unsent is not None and not await self._post(self._unsent):
            return False
        self._unsent = self.make()
        return await self._post(self._unsent)

    async def _post(self, report: Report) -> bool:
        age_s = min(MAX_AGE_S, max(0.0, self._clock() - self._since_s))
        body = msgspec.json.encode(msgspec.structs.replace(report, age_s=round(age_s, 3)))
        try:
            with trio.fail_after(TIMEOUT_S):
                response = await self.client.post(REPORT_PATH, content=body)
            if response.status_code >= 500:
                raise OSError(f"the controller answered {response.status_code}")
        except Exception as error:  # whatever keeps a report from the controller, it is sent again
            if not self._is_failing:
                self._log.warning("a report could not be sent; it is kept", error=repr(error))
            self._is_failing = True
            return False
        self._is_failing = False
        self._unsent = None
        if response.status_code >= 300:
            self._log.error("the controller refused a report", status=response.status_code, body=response.text[:500])
        return True

    def make(self) -> Report:
        """Make a report of all that was counted since the last one."""
        now_s = self._clock()
        self._meter.fold()
        self._sequence += 1
        report = Report(
            namespace=self._namespace,
            pod=self._pod,
            instance=self._instance,
            sequence=self._sequence,
            interval_s=min(3600.0, max(0.0, now_s - self._since_s)),
            http=tuple(self._http_deltas())[:MAX_SERIES_COUNT],
            tcp=tuple(self._tcp_deltas())[:MAX_SERIES_COUNT],
        )
        self._since_s = now_s
        return report

    def _http_deltas(self) -> Iterator[HttpSeries]:
        # Series by series: one that has expired meanwhile (it had not changed for long) leaves no trace in the sums.
        before, self._http = self._http, {}
        sums: dict[_Key, _HttpTotals] = {}
        for series in self._meter.http.values():
            if meter.PROBE_LABELS[-1] in series.labels:
                continue
            now = self._http[series] = http_totals(series)
            then = before.get(series, _NO_HTTP)
            if now[:2] != then[:2]:
                sofar = sums.get(key_of(series), _NO_HTTP)
                sums[key_of(series)] = (
                    sofar[0] + now[0] - then[0],
                    sofar[1] + now[1] - then[1],
                    tuple(total + new - old for total, new, old in zip(sofar[2], now[2], then[2], strict=True)),
                    sofar[3] + now[3] - then[3],
                )
        for (direction, peer), (success, failure, buckets, sum_ms) in sums.items():
            yield HttpSeries(direction, peer, success, failure, buckets, max(0.0, round(sum_ms, 3)))

    def _tcp_deltas(self) -> Iterator[TcpSeries]:
        before, self._tcp = self._tcp, {}
        sums: dict[_Key, tuple[int, ...]] = {}
        for series in filter(is_told, self._meter.tcp.values()):
            now = self._tcp[series] = tcp_totals(series)
            then = before.get(series, _NO_TCP)
            if now != then or series.open_now:
                sofar = sums.get(key_of(series), (0, 0, 0, 0, 0))
                news = (*map(sub, now, then), series.open_now)
                sums[key_of(series)] = tuple(map(add, sofar, news))
        for (direction, peer), (opened, closed, read_bytes, write_bytes, open_now) in sums.items():
            yield TcpSeries(direction, peer, opened, closed, open_now, read_bytes, write_bytes)
