"""Connects to servers in the pump's own epoll: the door of plain connections. Turn.

Theory of operation. A connect on the same machine is over when the system call returns, although it says "in progress":
the kernel answers its own SYN on the way out. So the door asks once more at once. Only a connect that really takes a
network's time is registered with the pump, and has a timer. Either way the dialler hears of it after `dial` has
returned.

A handshake above TCP must wait for several messages; it will be a task of trio behind the same protocol (seams.Door),
begun with the socket that this door gives: whoever dials cannot tell.

Sources: connect(2), EINPROGRESS and EALREADY; epoll(7); tcp(7), options.
"""

import socket
from errno import EALREADY, ECONNREFUSED, EINPROGRESS, EISCONN
from typing import Final

from proxy.config import Config
from proxy.listener import watch
from proxy.model import Address
from proxy.pump import BROKEN, ONCE, WRITE, Handler, Pump
from proxy.seams import Dial, Dialler, Door, Timer

_REFUSED: Final = "connect-refused"
_UNREACHABLE: Final = "connect-unreachable"
_TIMEOUT: Final = "connect-timeout"

GROWN_S: Final = 0.5
"""A connection that lives for so long, or twice that at most, is watched by the kernel for a peer that has vanished.
Five options cost more than connecting does; most short connections are over before."""

_STREAM: Final = int(socket.SOCK_STREAM) | int(socket.SOCK_NONBLOCK)
"""Non-blocking from the beginning: no system call of its own."""


class TurnDial(Dial, Handler):
    """A dial on its way: owns the socket until the dialler has it."""

    __slots__ = ("_dialler", "_door", "_reason", "_sock", "_timer")

    def __init__(self, door: "TurnDoor", dialler: Dialler) -> None:
        self._door = door
        self._dialler: Dialler | None = dialler
        self._sock: socket.socket | None = None
        self._timer: Timer | None = None
        self._reason = ""

    def begin(self, address: Address) -> None:
        """Connect; call back later, whatever comes of it."""
        pump = self._door.pump
        try:
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
            self._sock = sock = socket.socket(family, _STREAM)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            number = sock.connect_ex(address)
            if number == EINPROGRESS:
                number = sock.connect_ex(address)
        except OSError:
            self._reason = _UNREACHABLE
            pump.defer(self._end)
            return
        if number == EALREADY:
            pump.register(sock.fileno(), WRITE | ONCE, self)
            self._timer = pump.call_at(pump.now_s + self._door.config.connect_timeout_s, self._on_timeout)
        else:
            self._reason = reason_of(number)
            pump.defer(self._end)

    def on_ready(self, events: int) -> None:
        sock = self._sock
        if sock is not None:
            # A connection that has come about is not broken: no need to ask for its error.
            self._reason = reason_of(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)) if events & BROKEN else ""
            self._end()

    def _on_timeout(self) -> None:
        self._timer = None
        self._reason = _TIMEOUT
        self._end()

    def _end(self) -> None:
        """Tell the dialler, unless it has cancelled. It registers the socket for itself."""
        dialler, self._dialler = self._dialler, None
        sock = self._sock
        if dialler is None:
            return
        if self._reason or sock is None:
            self._close()
            dialler.on_dial_failed(self._reason)
        else:
            self._sock = None
            self._stop()
            self._door.on_connected(sock)
            dialler.on_connected(sock)

    def cancel(self) -> None:
        if self._dialler is not None:
            self._dialler = None
            self._close()

    def _close(self) -> None:
        self._stop()
        sock, self._sock = self._sock, None
        if sock is not None:
            self._door.pump.leave(sock.fileno())
            sock.close()

    def _stop(self) -> None:
        self._door.dialling_count -= 1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class TurnDoor(Door):
    """Dials, each of which ends in exactly one callback unless it was cancelled."""

    def __init__(self, pump: Pump, config: Config) -> None:
        self.pump: Final = pump
        self.config: Final = config
        self.dialling_count = 0
        self._young: dict[int, socket.socket] = {}
        """By descriptor, so that their number is bounded by that of the connections open at a time."""
        self._grown: dict[int, socket.socket] = {}
        self._is_ticking = False

    def dial(self, address: Address, dialler: Dialler) -> TurnDial:
        dial = TurnDial(self, dialler)
        self.dialling_count += 1
        dial.begin(address)
        return dial

    def on_connected(self, sock: socket.socket) -> None:
        """Take note of a new connection."""
        self._young[sock.fileno()] = sock
        self.pump.look_at_clock()  # how long connecting took is all that tells of an opaque server's load
        if not self._is_ticking:
            self._is_ticking = True
            self.pump.call_at(self.pump.now_s + GROWN_S, self._tick)

    def _tick(self) -> None:
        """Let those that have lived through a whole tick be watched."""
        for sock in self._grown.values():
            if sock.fileno() >= 0:
                try:
                    watch(sock, self.config)
                except OSError:
                    pass  # broken meanwhile: its channel hears of it
        self._grown, self._young = self._young, {}
        self._is_ticking = bool(self._grown)
        if self._is_ticking:
            self.pump.call_at(self.pump.now_s + GROWN_S, self._tick)


def reason_of(number: int) -> str:
    """Word an error number of connecting; empty for a success."""
    if number in (0, EISCONN):
        return ""
    return _REFUSED if number == ECONNREFUSED else _UNREACHABLE
