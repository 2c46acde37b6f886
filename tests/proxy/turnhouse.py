"""The turn world without trio: a real pump and real channels on socket pairs, a clock and a door in the test's hand."""

import socket
from dataclasses import dataclass, field

from proxy.config import Config
from proxy.meter import Meter
from proxy.model import Address
from proxy.parts import Parts
from proxy.pool import Pool
from proxy.pump import Pump
from proxy.seams import Dialler
from proxy.session import Session
from proxy.targets import Targets


class Ear:
    """Hears a channel, and keeps it: data as it came, `<end>`, and the errno's name of one that broke."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def on_data(self, data: bytes) -> None:
        self.heard.append(data)

    def on_eof(self) -> None:
        self.heard.append(b"<end>")

    def on_lost(self, errno: str) -> None:
        self.heard.append(errno.encode())


class Watch:
    """Hears the events of a descriptor, and keeps them."""

    def __init__(self) -> None:
        self.heard: list[int] = []

    def on_ready(self, events: int) -> None:
        self.heard.append(events)


@dataclass
class FakeDial:
    """One dial that was asked for; the test answers it."""

    address: Address
    dialler: Dialler
    pump: Pump
    is_cancelled: bool = False

    def cancel(self) -> None:
        self.is_cancelled = True

    def connect(self) -> socket.socket:
        """Let it succeed; give the server's end."""
        ours, theirs = pair()
        self.pump.enter(self.dialler.on_connected, ours)
        return theirs

    def fail(self, reason: str) -> None:
        self.pump.enter(self.dialler.on_dial_failed, reason)


@dataclass
class FakeDoor:
    """Keeps what was asked of it. Satisfies seams.Door."""

    pump: Pump
    dials: list[FakeDial] = field(default_factory=list)

    def dial(self, address: Address, dialler: Dialler) -> FakeDial:
        self.dials.append(FakeDial(address, dialler, self.pump))
        return self.dials[-1]


def pair() -> tuple[socket.socket, socket.socket]:
    """A connected pair of TCP sockets on loopback: ours does not block, theirs waits a second at most."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    for sock in (ours, theirs):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    ours.setblocking(False)
    theirs.settimeout(1.0)
    return ours, theirs


class TurnHouse:
    """Everything that a session needs."""

    def __init__(self, **settings: object) -> None:
        self.now_s = 1000.0
        self.pump = Pump(lambda: self.now_s, self._on_bug)
        self.meter = Meter(2000)
        self.door = FakeDoor(self.pump)
        self.notices: list[tuple[str, str, str]] = []
        config = Config(**settings)  # type: ignore[arg-type]
        pool = Pool(self.meter, config.pool_idle_count, config.pool_idle_timeout_s)
        self.parts = Parts(
            config, self.pump, self.door, self.meter, pool, lambda: 0.0, lambda *told: self.notices.append(told)
        )
        self.targets = Targets(
            "outbound", self.pump, self.meter, config.max_targets_count, config.discovery_timeout_s, lambda: 0.0
        )
        self.parts.outbound = self.targets
        self.sockets: list[socket.socket] = []

    @staticmethod
    def _on_bug(_owner: object, error: Exception) -> None:
        raise error

    def accept(self, address: Address) -> socket.socket:
        """Let a client connect to an original destination; give the client's end."""
        ours, theirs = pair()
        self.sockets.append(theirs)
        target = self.targets.take(address)
        session = Session(self.parts, self.parts.channel(ours, target.tcp), target, self.targets)
        self.pump.enter(session.begin)
        return theirs

    def spin(self, seconds: float = 0.0) -> None:
        """Let time pass, fire what is due, serve what is ready."""
        self.now_s += seconds
        self.pump.fire_timers()
        self.pump.settle()
        while self.pump.turn():
            pass

    def close(self) -> None:
        for session in list(self.parts.sessions):
            self.pump.enter(session.abort, "draining")
        for session in list(self.parts.sessions):
            self.pump.enter(session.abort, "draining")
        self.parts.pool.close()
        for theirs in self.sockets:
            theirs.close()
        self.pump.close()
