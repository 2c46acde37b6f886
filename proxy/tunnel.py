"""An opaque relay: bytes both ways, each direction ended on its own. Turn.

Small relays copy through the process. A direction that has moved `splice_after_bytes` is moved by the kernel from then
on (os.splice through a pipe): no byte enters the process. Pipes cost two descriptors, so only bulk gets them.

Sources: splice(2), pipe(7); RFC 9293 section 3.6 (half-close).
"""

from typing import TYPE_CHECKING, Final

from proxy.channel import PAUSED_BY_TURN, SocketChannel
from proxy.parts import Limited, Parts
from proxy.pool import Endpoint
from proxy.seams import ChannelUser
from proxy.splice import Splice

if TYPE_CHECKING:
    from proxy.session import Session
    from proxy.traffic import Place

QUIET_S: Final = 10.0
"""Silence after which a relay counts as idle, where all connections are taken and one must give way."""


class Tunnel(Limited):
    """Owns both channels from `join` on."""

    __slots__ = ("_client", "_endpoint", "_is_over", "_parts", "_place", "_server", "_session", "_splices")

    def __init__(
        self, session: "Session", client: SocketChannel, endpoint: Endpoint, place: "Place | None" = None
    ) -> None:
        """Take the client's channel.

        Args:
            session: whose connection it is.
            client: its channel.
            endpoint: whose `in_flight` has been counted up for this tunnel.
            place: under the limits of a policy, which the tunnel keeps for as long as it lasts.
        """
        self._parts: Parts = session.parts
        self._session = session
        self._client = client
        self._server: SocketChannel | None = None
        self._endpoint = endpoint
        self._place = place
        self._is_over = False
        self._splices: list[Splice] = []

    def join(self, server: SocketChannel, from_client: bytes, from_server: bytes) -> None:
        """Begin: write what either side has already said, then relay."""
        self._server = server
        client = self._client
        _connect(client, server, self)
        _connect(server, client, self)
        if from_client:
            server.write(from_client)
        if from_server:
            client.write(from_server)
        client.resume(PAUSED_BY_TURN)
        for channel in (client, server):
            if channel.has_read_eof and not self._is_over:
                channel.user.on_eof()

    def on_bulk(self, source: SocketChannel, sink: SocketChannel) -> None:
        """A direction has become bulk: let the kernel move it."""

        def on_end() -> None:
            sink.on_flushed = self.on_half_closed
            sink.write_eof()

        try:
            self._splices.append(Splice(self._parts.pump, source, sink, on_end, self.on_lost))
        except OSError:
            pass  # no descriptors left: it goes on by copying

    def on_lost(self, _errno: str) -> None:
        """One side was reset: so is the other."""
        self._end(reset=True)

    def on_half_closed(self) -> None:
        """Both directions have ended: all is said. A splice reads no end before its pipe is empty."""
        sides = (self._client, self._server)
        if all(side is not None and side.has_read_eof and not side.queued_bytes for side in sides):
            self._end(reset=False)

    def _end(self, reset: bool) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._endpoint.in_flight -= 1
        for splice in self._splices:
            splice.close()
        for channel in (self._client, self._server):
            if channel is not None:
                channel.feed_from(None)
                channel.abort() if reset else channel.close()
        self._session.on_done()
        if self._place is not None:
            self._place.leave()

    # limits

    @property
    def _active_s(self) -> float:
        server = self._server
        return self._client.active_s if server is None else max(self._client.active_s, server.active_s)

    @property
    def is_idle(self) -> bool:
        return self._parts.pump.now_s - self._active_s > QUIET_S

    def abort(self, reason: str) -> None:
        self._fail(reason)

    def _fail(self, reason: str) -> None:
        """End in the sidecar's own name."""
        direction = self._session.target.direction
        self._parts.notice(direction, reason, f"tunnel to {self._endpoint.address}", "tcp")
        self._end(reset=True)

    @property
    def source(self) -> str:
        return self._session.source

    @property
    def held_bytes(self) -> int:
        server = self._server
        return self._client.queued_bytes + (0 if server is None else server.queued_bytes)

    def check(self, now_s: float) -> None:
        server = self._server
        config = self._parts.config
        half = self._client.has_read_eof or (server is not None and server.has_read_eof)
        limit_s = config.half_closed_timeout_s if half else config.tunnel_idle_timeout_s
        if now_s - self._active_s > limit_s:
            self._fail("idle-timeout")


class _Direction(ChannelUser):
    """One direction of a tunnel while it is copied."""

    __slots__ = ("_moved_bytes", "_sink", "_source", "_splice_after_bytes", "owner")

    def __init__(self, source: SocketChannel, sink: SocketChannel, tunnel: Tunnel, splice_after_bytes: int) -> None:
        self._source = source
        self._sink = sink
        self.owner = tunnel
        self._moved_bytes = 0
        self._splice_after_bytes = splice_after_bytes

    def on_data(self, data: bytes) -> None:
        sink = self._sink
        sink.write(data)
        self._source.ack_if_awaited(len(data))
        self._moved_bytes += len(data)
        if self._moved_bytes > self._splice_after_bytes > 0:
            self._splice_after_bytes = 0
            sink.on_flushed = self._on_flushed

    def _on_flushed(self) -> None:
        if self._source.is_open and not self._source.has_read_eof:
            self.owner.on_bulk(self._source, self._sink)

    def on_eof(self) -> None:
        sink = self._sink
        sink.on_flushed = self.owner.on_half_closed
        sink.write_eof()

    def on_lost(self, errno: str) -> None:
        self.owner.on_lost(errno)


def _connect(source: SocketChannel, sink: SocketChannel, tunnel: Tunnel) -> None:
    direction = _Direction(source, sink, tunnel, tunnel._parts.config.splice_after_bytes)
    source.user = direction
    sink.feed_from(source)
