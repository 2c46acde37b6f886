"""What every session needs, made once in app. Turn."""

from collections.abc import Callable
from dataclasses import dataclass, field
from time import time
from typing import TYPE_CHECKING, Protocol

from contract.metrics import INBOUND
from contract.seats import Seats
from proxy.channel import SocketChannel
from proxy.config import Config
from proxy.meter import Meter, TcpSeries
from proxy.model import Direction
from proxy.pool import Pool
from proxy.pump import Pump
from proxy.seams import Door

if TYPE_CHECKING:
    from proxy.peers import Peers
    from proxy.session import Session
    from proxy.targets import Targets


class Limited(Protocol):
    """A session, as the sweep and the drain see it."""

    __slots__ = ()

    @property
    def is_idle(self) -> bool:
        """Whether its end would cost its client nothing but another connection."""
        ...

    def check(self, now_s: float) -> None:
        """End what has lasted too long."""
        ...

    def abort(self, reason: str) -> None:
        """End at once."""
        ...

    @property
    def held_bytes(self) -> int:
        """What its peers make the sidecar hold for it in memory."""
        ...

    @property
    def source(self) -> str:
        """Who fills it: the direction, a space and the client's address."""
        ...


class Notice(Protocol):
    """Takes note of one failure that the sidecar made: counted by kind (http, tcp; "": not) and reason, logged."""

    def __call__(self, direction: str, reason: str, detail: str, kind: str = "http") -> None: ...


@dataclass
class Parts:
    """The shared parts of the turn world."""

    config: Config
    pump: Pump
    door: Door
    meter: Meter
    pool: Pool
    random: Callable[[], float]
    notice: Notice
    unix_s: Callable[[], float] = time
    """Seconds since 1970, of the clock that the application reads too."""
    outbound: "Targets | None" = None
    """Where mirrors find their targets."""
    peers: "Peers | None" = None
    """Who tells clients by their addresses."""
    shadows_count: int = 0
    is_draining: bool = False
    is_crowded: bool = False
    """The connections that there are leave no memory for more."""
    sessions: dict[Limited, None] = field(default_factory=dict)
    inbound_seats: "Seats[Session]" = field(init=False)
    """Client connections by their clients' addresses: strangers, who must not keep each other out."""
    outbound_seats: "Seats[Session]" = field(init=False)
    """Those of the application itself: a place of their own, that no stranger can fill."""

    def __post_init__(self) -> None:
        self.inbound_seats = Seats(self.config.max_sessions_count)
        self.outbound_seats = Seats(self.config.max_sessions_count)

    def seats_of(self, direction: Direction) -> "Seats[Session]":
        return self.inbound_seats if direction == INBOUND else self.outbound_seats

    def channel(self, sock: object, series: TcpSeries) -> SocketChannel:
        """Make a channel of a connected socket."""
        config = self.config
        return SocketChannel(
            self.pump,
            sock,  # type: ignore[arg-type]
            series,
            config.read_bytes,
            config.buffer_high_bytes,
            config.buffer_low_bytes,
        )
