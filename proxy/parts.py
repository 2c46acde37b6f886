"""What every session needs, made once in app. Turn."""

from collections.abc import Callable
from dataclasses import dataclass, field
from time import time
from typing import TYPE_CHECKING, Protocol

from proxy.channel import SocketChannel
from proxy.config import Config
from proxy.meter import Meter, TcpSeries
from proxy.pool import Pool
from proxy.pump import Pump
from proxy.seams import Door

if TYPE_CHECKING:
    from proxy.peers import Peers
    from proxy.targets import Targets


class Limited(Protocol):
    """A session, as the sweep and the drain see it."""

    __slots__ = ()

    def check(self, now_s: float) -> None:
        """End what has lasted too long."""
        ...

    def abort(self, reason: str) -> None:
        """End at once."""
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
    sessions: dict[Limited, None] = field(default_factory=dict)

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
