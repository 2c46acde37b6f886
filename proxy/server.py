"""One connection to a server that speaks HTTP/1: used by one exchange at a time, idle in the pool between. Turn."""

import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

from proxy.channel import PAUSED_BY_PEER, PAUSED_BY_TURN, SocketChannel
from proxy.errors import WireFault
from proxy.model import Headers, RequestHead
from proxy.pool import Endpoint, Pool
from proxy.pump import Asker, Pump
from proxy.seams import ChannelUser, Leg, LegUser
from proxy.wire.http1 import NOBODY, ResponseReader
from proxy.wire.streams import NO_ERROR

if TYPE_CHECKING:
    from proxy.parts import Parts

TRUSTED_IDLE_S: Final = 0.05
"""A connection used less than this ago is not asked whether it still lives before it is taken: no server's idle time is
so short, and asking costs a system call for each request. Before the request leaves the pump looks in any case, at all
such connections at once; but by then its body may be too long to go elsewhere."""


class Keeper(Protocol):
    """A client's connection, which keeps to itself the connection to a server that knows this client."""

    __slots__ = ()

    def keep(self, server: "Server") -> None: ...


class Server(Leg, ChannelUser, Asker):
    """A channel and its response reader.

    No byte that was there before a request has left is taken for its answer: what a broken server says unasked is the
    answer to another client's request, or to none.
    """

    __slots__ = (
        "_look_number",
        "_user",
        "channel",
        "endpoint",
        "idle_since_s",
        "is_reused",
        "keeper",
        "pool",
        "pump",
        "reader",
    )

    def __init__(self, channel: SocketChannel, endpoint: Endpoint, parts: "Parts") -> None:
        self.channel = channel
        self.endpoint = endpoint
        self.pool: Pool = parts.pool
        self.pump: Pump = parts.pump
        self.reader = ResponseReader(NOBODY, parts.config.max_head_bytes, parts.config.max_fields_count)
        self.is_reused = False
        self.idle_since_s = 0.0
        self._look_number = -1
        """The pump's count of looks when the request was written on a connection that has served before."""
        self.keeper: Keeper | None = None
        """Whose request this is, if nobody else's may follow it on a connection that knows its client."""
        self._user: LegUser | None = None
        channel.user = self

    def __repr__(self) -> str:
        return f"<Server {self.endpoint.address} {'busy' if self._user else 'idle'} {self.channel!r}>"

    # the leg of an exchange

    @property
    def active_s(self) -> float:
        return self.channel.active_s

    @property
    def is_unheard(self) -> bool:
        return self.is_reused and self.reader.is_unheard

    def begin(self, user: LegUser, head: RequestHead, is_ended: bool) -> None:
        """Serve one exchange."""
        self._user = user
        self.reader.sink = user
        self.reader.expect(head.method, head.minor)
        if head.is_personal:
            self.reader.is_personal = True
        self.channel.write(head.raw)
        if self.is_reused:
            self._look_number = self.pump.looks_count
            self.pump.ask(self.channel.fd, self)

    def write_body(self, data: bytes) -> None:
        self.channel.write(data)

    def end_request(self, trailers: Headers) -> None:
        """The request's own framing has told it."""

    def finish(self, is_request_done: bool, now_s: float) -> None:
        """Leave the exchange: into the pool if the connection can be used again, else closed."""
        self.end(is_request_done and self.reader.keep_alive, now_s)

    def hold(self) -> None:
        self.channel.pause(PAUSED_BY_TURN)

    def release(self) -> None:
        self.channel.resume(PAUSED_BY_TURN)

    def run_free(self) -> None:
        """Nothing is ever held back unless somebody asks."""

    @property
    def queued_bytes(self) -> int:
        return self.channel.queued_bytes

    def cancel(self, code: int) -> None:
        """Break off: a server takes an end for that of the request alone (half-closed) and would work on for nobody.

        Only where the client itself has ended in the middle of its request (NO_ERROR) does its server hear just that.
        """
        if code != NO_ERROR:
            self.channel.abort()
        self.close()

    def end(self, reusable: bool, now_s: float) -> None:
        """Go into the pool, or to the one client that this connection knows, or close."""
        self._user = None
        keeper, self.keeper = self.keeper, None
        self.reader.sink = NOBODY
        self.channel.feed_from(None)
        if reusable and not self.reader.rest and self.channel.is_open and not self.channel.queued_bytes:
            self.channel.resume(PAUSED_BY_PEER)
            self.is_reused = True
            self.idle_since_s = now_s
            if self.reader.is_personal:
                if keeper is not None:
                    keeper.keep(self)
                    return
            elif self.pool.give(self.endpoint, self):
                return
        self.close()

    def can_serve(self, endpoints: Sequence[Endpoint]) -> bool:
        """Tell whether the connection is open, serves nobody now, and leads to one of these endpoints."""
        endpoint = self.endpoint
        return self._user is None and self.channel.is_open and not endpoint.is_gone and endpoint in endpoints

    def is_fresh(self, now_s: float) -> bool:
        """Tell whether the connection can be used: open, and the server has not ended it meanwhile."""
        channel = self.channel
        if not channel.is_open:
            return False
        if now_s - self.idle_since_s < TRUSTED_IDLE_S:
            return True
        return not self.has_spoken()

    # from the pump

    def has_spoken(self) -> bool:
        try:
            self.channel.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True  # it has ended, or spoken unasked

    def on_spoken(self) -> None:
        """The request must not leave: let it go elsewhere."""
        user, self._user = self._user, None
        self.keeper = None
        self.channel.abort()
        if user is not None:
            user.on_unsent()

    def close(self) -> None:
        self.pool.evict(self.endpoint, self)
        self._user = None
        self.keeper = None
        self.reader.release()
        self.channel.close()

    # from the channel

    def on_data(self, data: bytes) -> None:
        if self._user is None:
            self.close()
            return
        if self._look_number == self.pump.looks_count:
            self.on_spoken()
            return
        try:
            self.reader.feed(data)
        except WireFault as fault:
            self.lose(f"bad-response:{fault}")
            return
        if not self.reader.is_done:
            self.channel.ack(len(data))

    def on_eof(self) -> None:
        user = self._user
        if user is None:
            self.close()
        elif self._look_number == self.pump.looks_count:
            self.on_spoken()
        elif not self.reader.feed_eof():
            self.lose("server-closed")

    def on_lost(self, errno: str) -> None:
        if self._user is None:
            self.pool.evict(self.endpoint, self)
        elif self._look_number == self.pump.looks_count:
            self.on_spoken()
        else:
            self.lose("server-closed")

    def lose(self, reason: str) -> None:
        """Give up on the server; `reason` is a word of errors.REASONS, with `:detail` behind it if there is any."""
        user = self._user
        self._user = None
        self.keeper = None
        self.channel.abort()
        if user is not None:
            user.on_server_lost(reason)
