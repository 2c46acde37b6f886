"""The seams between the parts of the sidecar. Pure: Protocols only.

A Door gives connections, a Clock tells the turn's time. An exchange stands between a Caller (the client's side) and
Legs (the server's side), and knows no protocol: HTTP/1 and HTTP/2 each bring their own Caller and Leg. Whoever knows
only these is tested with doubles in the test's hand.
"""

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from proxy.model import Address, Direction, Headers, PeerKind, RequestHead, ResponseHead

if TYPE_CHECKING:
    from proxy.parts import Parts
    from proxy.server import Server
    from proxy.targets import Target
    from proxy.traffic import Place


class Dialler(Protocol):
    """Who asked the Door for a connection: exactly one of the two is called, unless it was cancelled."""

    __slots__ = ()

    def on_connected(self, sock: socket.socket) -> None: ...
    def on_dial_failed(self, reason: str) -> None: ...


class Dial(Protocol):
    """A dial on its way."""

    __slots__ = ()

    def cancel(self) -> None: ...


class Door(Protocol):
    """Where connections to servers come from, in the turn world or, where a handshake must be waited for, beyond it."""

    __slots__ = ()

    def dial(self, address: Address, dialler: Dialler) -> Dial: ...


class Timer(Protocol):
    """A callback to come."""

    __slots__ = ()

    def cancel(self) -> None: ...


class Clock(Protocol):
    """The turn's time, and its timers."""

    __slots__ = ()

    now_s: float
    """Seconds of a monotonic clock, read once for each event."""

    def call_at(self, when_s: float, callback: Callable[[], None]) -> Timer: ...

    def defer(self, callback: Callable[[], None]) -> None:
        """Call back as soon as the current callback has returned."""
        ...


class ChannelUser(Protocol):
    """Who hears a channel. Only the pump's turns call it, never a method of the channel."""

    __slots__ = ()

    def on_data(self, data: bytes) -> None: ...

    def on_eof(self) -> None:
        """The peer has ended its direction."""
        ...

    def on_lost(self, errno: str) -> None:
        """The connection broke, and the channel is closed already; the errno's name."""
        ...


class LegUser(Protocol):
    """Who hears a leg: one try of an exchange."""

    __slots__ = ()

    def on_response(self, head: ResponseHead) -> None:
        """A head has come: any number with a status below 200, then one final."""
        ...

    def on_body(self, data: bytes) -> None: ...

    def on_end(self, trailers: Headers = ()) -> None:
        """The response is whole."""
        ...

    def on_server_lost(self, reason: str, code: int = 0) -> None:
        """The response will not come, or not whole: `word` of errors.REASONS or `word:detail`; `code` is HTTP/2's."""
        ...

    def on_unsent(self) -> None:
        """Nothing of the request has left: its connection had ended, or its server spoken unasked."""
        ...


class Leg(Protocol):
    """One request on its way to a server: a pooled HTTP/1 connection, or a stream of a trunk."""

    __slots__ = ()

    @property
    def active_s(self) -> float:
        """When a byte last moved."""
        ...

    @property
    def is_unheard(self) -> bool:
        """Whether the server cannot have begun on this request, although it was sent: a dying kept-alive connection."""
        ...

    def begin(self, user: LegUser, head: RequestHead, is_ended: bool) -> None:
        """Send the head; `is_ended` when neither body nor trailers follow."""
        ...

    def write_body(self, data: bytes) -> None: ...

    def end_request(self, trailers: Headers) -> None: ...

    def finish(self, is_request_done: bool, now_s: float) -> None:
        """The response is whole: let the connection serve others, if it can."""
        ...

    def hold(self) -> None:
        """Let no more of the response come for now."""
        ...

    def release(self) -> None: ...

    def run_free(self) -> None:
        """Nobody takes this response piece by piece: let it come as fast as it can (a mirror's)."""
        ...

    @property
    def queued_bytes(self) -> int:
        """Request bytes written and not sent yet."""
        ...

    def cancel(self, code: int) -> None:
        """Give up; HTTP/2 says so by a reset with this code."""
        ...


class Caller(Protocol):
    """The client's side of one exchange."""

    __slots__ = ()

    parts: "Parts"
    target: "Target"
    direction: Direction
    own: "Server | None"
    """The connection to a server that has come to know this client, and serves nobody else (HTTP/1)."""

    @property
    def peer_ip(self) -> str: ...

    @property
    def peer(self) -> PeerKind:
        """Who speaks."""
        ...

    @property
    def active_s(self) -> float:
        """When a byte last moved."""
        ...

    def couple(self, leg: Leg) -> None:
        """Let each side hold back the other from now on."""
        ...

    def uncouple(self) -> None: ...

    def hold(self) -> None:
        """Take no more of the request's body for now."""
        ...

    def release(self) -> None: ...

    def pass_informational(self, head: ResponseHead) -> None: ...

    def begin_response(self, head: ResponseHead, leg: Leg) -> None: ...

    def write_body(self, data: bytes) -> None: ...

    def end_response(self, trailers: Headers) -> None:
        """The response is whole; the exchange is over."""
        ...

    def switch(self, head: ResponseHead, leg: Leg, place: "Place | None") -> None:
        """The server has agreed to leave HTTP/1: become a tunnel, which keeps the place; the exchange is over."""
        ...

    def answer(
        self, reason: str, detail: str, status: int = 0, grpc_status: int = -1, retry_after_s: float = 0.0
    ) -> None:
        """Answer in the sidecar's own name, which ends the exchange.

        Args:
            reason: a word of errors.REASONS.
            detail: about whom or what, for people.
            status: of HTTP; 0: the one that belongs to `reason`.
            grpc_status: to a gRPC request; -1: the one that belongs to `reason`.
            retry_after_s: seconds until it is worth trying again; 0: not told.
        """
        ...

    def cut(self, code: int, trailers: Headers = ()) -> None:
        """Break off, so that the client cannot take a part for the whole; the exchange is over.

        Args:
            code: of HTTP/2's reset.
            trailers: what tells a gRPC client the same, and why; it takes their place.
        """
        ...
