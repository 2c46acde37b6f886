"""Lets strangers' connections into an asyncio server, bounded in number, time and bytes. Waits (asyncio).

The HTTP server behind it waits forever for a silent client, and keeps all that a client says of a head.
So the doorkeeper stands before it: it accepts, bounds the TLS handshake, hands the connection on, and looks on. When
all places are taken, an idle connection of the address that holds the most gives way (contract.seats): the kubelet's
probe finds a place however many others are connected.

A connection is idle while it has no whole head, and after its response: the server behind tells (`is_idle`).
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from contract.seats import Seats

SWEEP_S: Final = 0.5
"""Between two looks at the times of all connections."""

REST_S: Final = 0.1
"""After accept ran out of descriptors or memory."""

ACCEPTS_COUNT: Final = 16
"""In a row; then all else has its turn."""

P = TypeVar("P", bound=asyncio.Protocol)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client, and all of them, may take."""

    connections_count: int
    handshake_s: float = 5.0
    """Until TLS stands."""
    head_s: float = 10.0
    """From the beginning of a connection, or the first byte of a later request, until the head is whole."""
    body_s: float = 30.0
    """From the head until the request is whole."""
    head_bytes: int = 65536
    bodies_bytes: int = 32 * 2**20
    """Of all requests that are being read, together; beyond it the largest is ended."""


class Entry(asyncio.Protocol, Generic[P]):
    """One connection: passes everything on to the server's protocol, and keeps time and count."""

    def __init__(self, keeper: "Doorkeeper[P]", source: str, now_s: float) -> None:
        self._keeper = keeper
        self.source = source
        self.since_s = now_s
        """When the connection, or the request that is being read, began."""
        self.inner: P | None = None
        """The server's protocol; None until TLS stands."""
        self.head_bytes = 0
        """Of a head that is not whole."""
        self.body_bytes = 0
        """Of a request that is being read."""
        self.has_spoken = False
        """It has had a request; before that nothing else bounds its silence."""
        self.greeting: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None

    @property
    def is_idle(self) -> bool:
        return self.inner is None or self._keeper.is_idle(self.inner)

    def end(self) -> None:
        """Break the connection off."""
        if self._transport is not None:
            self._transport.abort()
        elif self.greeting is not None:
            self.greeting.cancel()

    # from asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.inner = self._keeper.make()
        self.since_s = self._keeper.now_s()
        self.inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        inner, keeper = self.inner, self._keeper
        if inner is None:
            return
        if keeper.is_idle(inner):
            if not self.head_bytes:
                self.since_s = keeper.now_s()
            self.head_bytes += len(data)
        inner.data_received(data)
        if not keeper.is_idle(inner):
            self.head_bytes = 0
            self.has_spoken = True
            keeper.weigh(self, len(data))
        elif self.head_bytes > keeper.limits.head_bytes:
            keeper.on_ended("head")
            self.end()

    def eof_received(self) -> bool | None:
        return None if self.inner is None else self.inner.eof_received()

    def pause_writing(self) -> None:
        if self.inner is not None:
            self.inner.pause_writing()

    def resume_writing(self) -> None:
        if self.inner is not None:
            self.inner.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        self._keeper.seats.give(self)
        self._keeper.weigh(self, -self.body_bytes)
        if self.inner is not None:
            self.inner.connection_lost(error)


class Doorkeeper(Generic[P]):
    """Owns all connections of one server."""

    def __init__(
        self,
        limits: Limits,
        make: Callable[[], P],
        is_idle: Callable[[P], bool],
        is_reading: Callable[[P], bool],
        on_ended: Callable[[str], None],
    ) -> None:
        """Stand before a server.

        Args:
            make: makes the server's protocol for one connection.
            is_idle: whether it has no request: none, or one that is answered.
            is_reading: whether it has a request whose body is not whole.
            on_ended: counts connections that were ended: `full`, for others or at once, when all places were taken;
                `handshake`, `head`, `body`, for what took too long or was too large; `bodies`, the largest of too many.
        """
        self.limits = limits
        self.make = make
        self.is_idle = is_idle
        self.is_reading = is_reading
        self.on_ended = on_ended
        self.seats: Seats[Entry[P]] = Seats(limits.connections_count)
        self._greetings: set[asyncio.Task[None]] = set()
        self._bodies_bytes = 0

    def now_s(self) -> float:
        return asyncio.get_running_loop().time()

    def weigh(self, entry: Entry[P], size_bytes: int) -> None:
        """Count bytes of a request that is being read; where there are too many, end the largest."""
        entry.body_bytes += size_bytes
        self._bodies_bytes += size_bytes
        if self._bodies_bytes <= self.limits.bodies_bytes:
            return
        total_bytes = 0
        for one in self.seats.all():
            if one.inner is None or self.is_idle(one.inner) or not self.is_reading(one.inner):
                one.body_bytes = 0  # it is read, and the server's matter
            total_bytes += one.body_bytes
        self._bodies_bytes = total_bytes
        if total_bytes > self.limits.bodies_bytes:
            largest = max(self.seats.all(), key=lambda one: one.body_bytes)
            self.on_ended("bodies")
            largest.end()

    async def serve(self, listener: socket.socket, context: Callable[[], ssl.SSLContext] | None = None) -> None:
        """Accept until cancelled. Connections stay: the server behind ends them.

        `context` gives the TLS context of the next connection; without it connections are plain.
        """
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        sweeper = loop.create_task(self._sweep())
        try:
            while True:
                for _ in range(ACCEPTS_COUNT):
                    try:
                        sock, address = await loop.sock_accept(listener)
                    except OSError:
                        await asyncio.sleep(REST_S)
                        continue
                    self._let_in(sock, str(address[0]), context() if context is not None else None)
                await asyncio.sleep(0)
        finally:
            sweeper.cancel()

    def _let_in(self, sock: socket.socket, source: str, context: ssl.SSLContext | None) -> None:
        seats = self.seats
        if seats.is_full:
            self.on_ended("full")
            other = seats.yielding(source, _is_idle)
            if other is None:
                sock.close()
                return
            seats.give(other)
            other.end()
        entry = Entry(self, source, self.now_s())
        seats.take(entry, source)
        entry.greeting = asyncio.get_running_loop().create_task(self._greet(entry, sock, context))
        self._greetings.add(entry.greeting)
        entry.greeting.add_done_callback(self._greetings.discard)

    async def _greet(self, entry: Entry[P], sock: socket.socket, context: ssl.SSLContext | None) -> None:
        """Hand the connection to the server's protocol, when TLS stands."""
        loop = asyncio.get_running_loop()
        try:
            if context is None:
                await loop.connect_accepted_socket(lambda: entry, sock)
            else:
                timeout_s = self.limits.handshake_s
                await loop.connect_accepted_socket(
                    lambda: entry, sock, ssl=context, ssl_handshake_timeout=timeout_s, ssl_shutdown_timeout=timeout_s
                )
        except OSError:  # TLS that fails and time that is up are among them
            self._forget(entry, sock)
            self.on_ended("handshake")
        except asyncio.CancelledError:
            self._forget(entry, sock)
        entry.greeting = None

    def _forget(self, entry: Entry[P], sock: socket.socket) -> None:
        self.seats.give(entry)
        sock.close()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            now_s = self.now_s()
            for entry in self.seats.all():
                self._check(entry, now_s)

    def _check(self, entry: Entry[P], now_s: float) -> None:
        inner, lasted_s = entry.inner, now_s - entry.since_s
        if inner is None:
            return  # asyncio bounds the handshake
        if not self.is_idle(inner):
            if self.is_reading(inner) and lasted_s > self.limits.body_s:
                self.on_ended("body")
                entry.end()
        elif (entry.head_bytes or not entry.has_spoken) and lasted_s > self.limits.head_s:
            self.on_ended("head")
            entry.end()


def _is_idle(entry: Entry[P]) -> bool:
    return entry.is_idle
