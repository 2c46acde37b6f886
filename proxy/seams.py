"""The seams between the turn world and everything else. Pure: Protocols only.

A Channel carries bytes, a Door does the waiting. Whoever knows only these can be tested without a network, and could
be driven by something else than the pump.
"""

import socket
from collections.abc import Callable
from typing import Protocol

from proxy.model import Address

PAUSED_BY_PEER = 1
"""The channel that our bytes go to is congested."""
PAUSED_BY_TURN = 2
"""The bytes that would arrive belong to a later message."""


class Channel(Protocol):
    """One connection of bytes. Callbacks come from the pump only; none of the methods calls one of them."""

    on_data: Callable[[bytes], None]
    on_eof: Callable[[], None]
    on_lost: Callable[[str], None]
    """The connection broke (errno name); the channel is closed already."""
    on_flushed: Callable[[], None] | None
    """All written bytes have left for the kernel; called once, then forgotten."""
    active_s: float
    """When the last byte moved either way."""
    queued_bytes: int

    @property
    def is_open(self) -> bool: ...

    def write(self, data: bytes) -> None:
        """Queue bytes; they are sent when the current callback returns. Keeps a reference to `data`."""
        ...

    def write_eof(self) -> None:
        """End our direction after all that was written."""
        ...

    def feed_from(self, source: "Channel | None") -> None:
        """Pause `source` while this channel is congested; None: nobody is to be paused any more."""
        ...

    def pause(self, reason: int) -> None: ...
    def resume(self, reason: int) -> None: ...

    def close(self) -> None:
        """Close in order; what is still queued is lost. No callback follows."""
        ...

    def abort(self) -> None:
        """Close with a reset, dropping what was written. No callback follows."""
        ...


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
