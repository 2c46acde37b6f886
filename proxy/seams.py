"""The seams between the turn world and everything else. Pure: Protocols only.

A Door does the waiting, a Clock tells the turn's time. Whoever knows only these is tested with a door and a clock in
the test's hand.
"""

import socket
from collections.abc import Callable
from typing import Protocol

from proxy.model import Address


class Dialler(Protocol):
    """Who asked the Door for a connection: exactly one of the two is called, unless it was cancelled."""

    def on_connected(self, sock: socket.socket) -> None: ...
    def on_dial_failed(self, reason: str) -> None: ...


class Dial(Protocol):
    """A dial on its way."""

    def cancel(self) -> None: ...


class Door(Protocol):
    """The only way from the turn world to the waiting world."""

    def dial(self, address: Address, dialler: Dialler) -> Dial: ...


class Timer(Protocol):
    """A callback to come."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """The turn's time, and its timers."""

    now_s: float
    """Seconds of a monotonic clock, read once for each event."""

    def call_at(self, when_s: float, callback: Callable[[], None]) -> Timer: ...

    def defer(self, callback: Callable[[], None]) -> None:
        """Call back as soon as the current callback has returned."""
        ...
