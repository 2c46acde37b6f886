"""Tells the controller what was counted since it was last told. Waits.

A report that got no answer is sent again under the same sequence number before the next one is made, so the
controller counts it once; what is counted meanwhile comes with the next.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from contract.report import MAX_SERIES_COUNT, REPORT_PATH, HttpSeries, Peer, Report, TcpSeries
from proxy.meter import Meter
from proxy.model import Direction

if TYPE_CHECKING:
    import httpx

FIRST_S: Final = 2.0
"""Seconds until the first report: a new pod shows up soon."""

TIMEOUT_S: Final = 5.0

_HttpKey = tuple[Direction, Peer]
_HttpTotals = tuple[int, int, tuple[int, ...], float]
_TcpTotals = tuple[int, int, int, int, int]


def http_totals(meter: Meter) -> dict[_HttpKey, _HttpTotals]:
    """Sum the HTTP series by direction and peer: success, failure, buckets, sum of latencies."""
    totals: dict[_HttpKey, _HttpTotals] = {}
    for series in meter.http.values():
        key = (_direction(series.labels), _peer(series.peer))
        for found in series.by_status.values():
            success, failure, buckets, sum_ms = totals.get(key, (0, 0, (0,) * len(found.buckets), 0.0))
            totals[key] = (
                success + found.count * found.success,
                failure + found.count * (not found.success),
                tuple(map(int.__add__, buckets, found.buckets)),
                sum_ms + found.sum_ms,
            )
    return totals


def tcp_totals(meter: Meter) -> dict[_HttpKey, _TcpTotals]:
    """Sum the TCP series: an inbound sidecar tells of its clients, an outbound one of its servers."""
    totals: dict[_HttpKey, _TcpTotals] = {}
    for series in meter.tcp.values():
        direction = _direction(series.labels)
        if ("peer", "src" if direction == "inbound" else "dst") not in series.labels:
            continue
        key = (direction, _peer(series.peer))
        own = (series.opened, sum(series.closed.values()), series.open_now, series.read_bytes, series.write_bytes)
        opened, closed, open_now, read, write = totals.get(key, (0, 0, 0, 0, 0))
        totals[key] = (opened + own[0], closed + own[1], open_now + own[2], read + own[3], write + own[4])
    return totals


def _direction(labels: tuple[tuple[str, str], ...]) -> Direction:
    return "inbound" if ("direction", "inbound") in labels else "outbound"


def _peer(peer: object) -> Peer:
    return peer if isinstance(peer, Peer) else Peer()


class Reporter:
    """Makes reports and sends them."""

    def __init__(
        self,
        client: "httpx.AsyncClient",
        identity: tuple[str, str],
        instance: str,
        meter: Meter,
        clock: Callable[[], float],
        log: Any,
    ) -> None:
        self._client = client
        self._namespace, self._pod = identity
        self._instance = instance
        self._meter = meter
        self._clock = clock
        self._log = log
        self._http: dict[_HttpKey, _HttpTotals] = {}
        self._tcp: dict[_HttpKey, _TcpTotals] = {}
        self._since_s = clock()
        self._sequence = 0
        self._unsent: bytes | None = None
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
        self._unsent = msgspec.json.encode(self.make())
        return await self._post(self._unsent)

    async def _post(self, body: bytes) -> bool:
        try:
            with trio.fail_after(TIMEOUT_S):
                response = await self._client.post(REPORT_PATH, content=body)
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
        http, tcp = http_totals(self._meter), tcp_totals(self._meter)
        now_s = self._clock()
        self._sequence += 1
        report = Report(
            namespace=self._namespace,
            pod=self._pod,
            instance=self._instance,
            sequence=self._sequence,
            interval_s=min(3600.0, max(0.0, now_s - self._since_s)),
            http=tuple(self._http_deltas(http))[:MAX_SERIES_COUNT],
            tcp=tuple(self._tcp_deltas(tcp))[:MAX_SERIES_COUNT],
        )
        self._http, self._tcp, self._since_s = http, tcp, now_s
        return report

    def _http_deltas(self, totals: dict[_HttpKey, _HttpTotals]) -> list[HttpSeries]:
        deltas = []
        for key, (success, failure, buckets, sum_ms) in totals.items():
            before = self._http.get(key, (0, 0, (0,) * len(buckets), 0.0))
            if before[0] > success or before[1] > failure:
                before = (0, 0, (0,) * len(buckets), 0.0)  # a series has expired meanwhile and begun anew
            if success == before[0] and failure == before[1]:
                continue
            deltas.append(
                HttpSeries(
                    direction=key[0],
                    peer=key[1],
                    success=success - before[0],
                    failure=failure - before[1],
                    latency_ms=tuple(max(0, now - then) for now, then in zip(buckets, before[2], strict=True)),
                    latency_sum_ms=max(0.0, round(sum_ms - before[3], 3)),
                )
            )
        return deltas

    def _tcp_deltas(self, totals: dict[_HttpKey, _TcpTotals]) -> list[TcpSeries]:
        deltas = []
        for key, now in totals.items():
            before = self._tcp.get(key, (0, 0, 0, 0, 0))
            if any(now[i] < before[i] for i in (0, 1, 3, 4)):
                before = (0, 0, 0, 0, 0)
            if now == before and not now[2]:
                continue
            opened, closed, read, write = (now[i] - before[i] for i in (0, 1, 3, 4))
            deltas.append(TcpSeries(key[0], key[1], opened, closed, now[2], read, write))
        return deltas
