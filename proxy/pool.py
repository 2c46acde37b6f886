"""Endpoints: what the balancer knows of them, and their idle connections. Turn."""

from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Final

from proxy.meter import HttpSeries, Meter, TcpSeries
from proxy.model import Address
from proxy.policy.balance import DEFAULT_RTT_S
from proxy.policy.load import HEALTHY, Load
from proxy.policy.outlier import Health, Judged

if TYPE_CHECKING:
    from proxy.server import Server
    from proxy.trunk import Trunk
    from proxy.trunks import TrunkDial


class Endpoint(Load, Judged):
    """One address that requests can go to. What balancing knows, Load and Judged explain."""

    __slots__ = (
        "added_s",
        "address",
        "barred_until_s",
        "bars_count",
        "cost_at_s",
        "cost_s",
        "ejected_until_s",
        "health",
        "http",
        "idle",
        "in_flight",
        "is_gone",
        "is_meshed",
        "is_preferred",
        "on_first_answer",
        "probation",
        "tcp",
        "trunk_dial",
        "trunks",
        "weight",
    )

    def __init__(self, address: Address, http: HttpSeries, tcp: TcpSeries, is_meshed: bool = False) -> None:
        self.address = address
        self.is_meshed = is_meshed
        """Whether a sidecar stands before it, whose word on errors can be believed."""
        self.http = http
        self.tcp = tcp
        self.cost_s = DEFAULT_RTT_S
        self.cost_at_s = 0.0
        self.in_flight = 0
        self.barred_until_s = 0.0
        self.bars_count = 0
        self.weight = 1
        self.is_preferred = False
        self.added_s = 0.0
        self.ejected_until_s = 0.0
        self.probation = HEALTHY
        self.health: Health | None = None
        self.idle: list[Server] = []
        """Kept-alive HTTP/1 connections, the most recently used last."""
        self.trunks: list[Trunk] = []
        """HTTP/2 connections that take requests, the oldest first."""
        self.trunk_dial: TrunkDial | None = None
        """The one on its way."""
        self.on_first_answer: Callable[[], None] | None = None
        """Called once, when it has accepted a connection."""
        self.is_gone = False
        """No snapshot names it any more: its connections are not kept."""

    def __repr__(self) -> str:
        return f"<Endpoint {self.address} cost={self.cost_s:.4f}s in_flight={self.in_flight} idle={len(self.idle)}>"

    @property
    def name(self) -> str:
        return str(self.address)

    def on_answer(self) -> None:
        """It has accepted a connection."""
        self.barred_until_s = 0.0
        if self.on_first_answer is not None:
            callback, self.on_first_answer = self.on_first_answer, None
            callback()

    def retire(self) -> None:
        """Close what is idle, keep nothing from now on."""
        self.is_gone = True
        self.on_first_answer = None
        for server in self.idle.copy():
            server.close()
        for trunk in self.trunks.copy():
            trunk.retire()


SURE_S: Final = 1.0
"""A server does not close a connection that was idle for less (seconds): Node, uvicorn, gunicorn and nginx wait for two
seconds to 75."""


_SHED_RATIO: Final = 16
"""Idle connections closed at once where there are too many: one in so many, so that finding the oldest costs little."""


def pool_limit(wanted_count: int, descriptors_count: int) -> int:
    """Connections that may wait unused in a process that has so many descriptors: clients come first."""
    return min(wanted_count, descriptors_count // 4)


class Pool:
    """The bound that all endpoints share, and the sweep of idle connections.

    An endpoint has as many idle connections as there were requests at once on it a moment ago: a new one is opened only
    when none is idle, and what was not used for `idle_timeout_s` is closed.
    """

    def __init__(self, meter: Meter, idle_count: int, idle_timeout_s: float) -> None:
        self._meter = meter
        self.idle_count = idle_count
        self.idle_timeout_s = idle_timeout_s
        self._kept: dict[Server, None] = {}
        self.trunks: dict[Trunk, None] = {}
        """All that are open, with or without requests."""

    def take(self, endpoint: Endpoint, now_s: float, is_resendable: bool) -> "Server | None":
        """Give the most recently used connection that is still good, or none.

        A request that must not be sent twice gets none that its server may be about to close.
        """
        idle = endpoint.idle
        while idle:
            if not is_resendable and now_s - idle[-1].idle_since_s > SURE_S:
                return None
            server = idle.pop()
            del self._kept[server]
            if server.is_fresh(now_s):
                return server
            server.close()
        return None

    def give(self, endpoint: Endpoint, server: "Server") -> bool:
        """Keep a connection for the next request; tell whether there was room."""
        if endpoint.is_gone or not self.idle_count:
            return False
        if len(self._kept) >= self.idle_count:
            self.shed()
        endpoint.idle.append(server)
        self._kept[server] = None
        return True

    def shed(self) -> None:
        """Close those that were unused for longest, whoever's they are."""
        count = (len(self._kept) + _SHED_RATIO - 1) // _SHED_RATIO
        if count:
            self._meter.count("pool_shed_total", (), count)
        for server in list(islice(self._kept, count)):
            server.close()

    def evict(self, endpoint: Endpoint, server: "Server") -> None:
        """Forget an idle connection that has ended."""
        if self._kept.pop(server, 0) is None:
            endpoint.idle.remove(server)

    def sweep(self, now_s: float) -> None:
        """Close what has been idle for too long; the oldest come first. Ask trunks that are silent."""
        for trunk in list(self.trunks):
            trunk.check(now_s)
        limit_s = now_s - self.idle_timeout_s
        while self._kept:
            server = next(iter(self._kept))
            if server.idle_since_s > limit_s:
                return
            server.close()

    def close(self) -> None:
        for server in list(self._kept):
            server.close()
        for trunk in list(self.trunks):
            trunk.close()

    @property
    def size_count(self) -> int:
        return len(self._kept)
