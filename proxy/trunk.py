"""An HTTP/2 connection to an endpoint; its streams are the legs of exchanges (trunk_stream). Turn.

Many exchanges share a trunk. It takes requests until the server says that it goes away, or the endpoint is gone; then
its last streams end and it closes. While streams are open and another sidecar is silent, it is asked by PING whether
it lives. Servers of others are asked nothing: gRPC's allow one PING in five minutes and end the connection of a client
that sends more. When their machine is gone, the kernel notices (listener.watch); one that only hangs is as quiet as it
would be without a mesh.

Sources: RFC 9113 sections 6.7 (PING), 6.8 (GOAWAY), 8.7 (requests that are safe to send again); gRPC's proposal A8 (who
enforces what of keep-alive).
"""

from typing import TYPE_CHECKING, Final

from contract.metrics import OUTBOUND
from proxy.channel import SocketChannel
from proxy.errors import WireFault
from proxy.link import UNSENT_BYTES, Link, LinkOwner, Windows
from proxy.model import Headers
from proxy.parts import Parts
from proxy.pool import Endpoint
from proxy.trunk_stream import TrunkStream
from proxy.wire.streams import REFUSED_STREAM, Settings

if TYPE_CHECKING:
    from proxy.trunks import TrunkFinder


class Trunk(LinkOwner):
    """Owner of a link to a server; listed by its endpoint while it takes requests, and by the pool while it is open."""

    __slots__ = (
        "_is_closed",
        "_max_streams_count",
        "_ping_s",
        "endpoint",
        "http2",
        "idle_since_s",
        "is_settled",
        "lazy_bytes",
        "link",
        "max_fields_count",
        "max_head_bytes",
        "parts",
        "streams",
        "waiters",
        "windows",
    )

    def __init__(self, parts: Parts, endpoint: Endpoint, channel: SocketChannel) -> None:
        config = parts.config
        self.parts = parts
        self.endpoint = endpoint
        self.streams: dict[int, TrunkStream] = {}
        self.windows: Final = Windows(config)
        self.lazy_bytes = self.windows.lazy_bytes
        self._max_streams_count: int = config.trunk_streams_count
        self.idle_since_s = parts.pump.now_s
        self.is_settled = False
        """The server has said what it takes."""
        self.waiters: dict[TrunkFinder, None] = {}
        """Who can only go on then."""
        self._ping_s = 0.0
        self._is_closed = False
        self.max_head_bytes: int = config.max_head_bytes
        self.max_fields_count: int = config.max_fields_count
        settings = Settings(
            False,
            0,
            config.first_window_bytes,
            config.connection_window_bytes(config.trunk_streams_count),
            config.max_head_bytes,
            config.max_fields_count,
        )
        self.link: Final = Link(self, channel, parts.pump, settings)
        self.http2: Final = self.link.http2
        parts.pool.trunks[self] = None
        if not endpoint.is_gone:
            endpoint.trunks.append(self)

    def __repr__(self) -> str:
        return f"<Trunk {self.endpoint.address} streams={len(self.streams)} {self.link.channel!r}>"

    @property
    def _is_sidecar(self) -> bool:
        """Whether a sidecar answers here. Every sidecar takes extended CONNECT; the application behind a port that a
        meshed pod skips mostly does not."""
        return self.endpoint.is_meshed and self.http2.has_connect_protocol

    @property
    def has_room(self) -> bool:
        """Whether another request can be sent now."""
        count = len(self.streams)
        return (
            count < self._max_streams_count
            and count < self.http2.streams_count
            and self.link.unsent_bytes < UNSENT_BYTES
        )

    @property
    def is_congested(self) -> bool:
        """Whether requests wait for the server to read those that were sent: another connection would not help."""
        return self.link.unsent_bytes >= UNSENT_BYTES

    def reset(self, stream_id: int, code: int) -> None:
        """Break a stream off, unless it is over."""
        if stream_id in self.streams:
            self.http2.reset(stream_id, code)
            self.link.touch()

    # from the connection

    def on_head(self, stream_id: int, fields: Headers, ended: bool) -> None:
        stream = self.streams.get(stream_id)
        if stream is not None:
            stream.on_head(fields, ended)

    def on_informational(self, stream_id: int, fields: Headers) -> None:
        self.on_head(stream_id, fields, False)

    def on_body(self, stream_id: int, data: bytes, ended: bool) -> None:
        stream = self.streams.get(stream_id)
        if stream is not None:
            stream.on_body(data, ended)
        elif data:
            self.http2.acknowledge(stream_id, len(data))

    def on_trailers(self, stream_id: int, fields: Headers) -> None:
        stream = self.streams.get(stream_id)
        if stream is not None:
            stream.end(fields)

    def on_reset(self, stream_id: int, code: int) -> None:
        stream = self.streams.pop(stream_id, None)
        if stream is not None:
            self._on_end(stream)
            word = "stream-refused" if code == REFUSED_STREAM and stream.is_unheard else "stream-reset"
            stream.lose(f"{word}:code {code} of {self.endpoint.address}", code)

    def on_malformed(self, stream_id: int, code: int) -> None:
        self.count("malformed-message")

    def on_closed(self, stream_id: int, code: int) -> None:
        """Without a reset before: refused by GOAWAY (code 7), or reset by us since the server broke its protocol."""
        self.link.forget(stream_id)
        stream = self.streams.pop(stream_id, None)
        if stream is not None:
            self._on_end(stream)
            if not stream.is_over:
                address = self.endpoint.address
                if code == REFUSED_STREAM:
                    stream.lose(f"stream-refused:{address} goes away", code)
                else:
                    stream.lose(f"bad-response:malformed, from {address}", code)
        if not self.streams:
            self._on_idle()

    def _on_end(self, stream: TrunkStream) -> None:
        stream.acknowledge(0)
        if stream.has_grown:
            self.windows.give_back()

    def on_goaway(self, last_stream_id: int, code: int) -> None:
        self.leave()

    def on_settings(self) -> None:
        self.is_settled = True
        self.on_room()

    def on_room(self) -> None:
        waiters, self.waiters = self.waiters, {}
        for finder in waiters:
            finder.on_trunk()

    def on_ping_ack(self) -> None:
        """That something was heard is enough (Link.heard_s)."""

    def on_over(self) -> None:
        self.close()

    def on_fault(self, fault: WireFault) -> None:
        """The server broke HTTP/2: none of its streams can go on."""
        self.count(fault.reason)
        self.lose(f"bad-response:{fault}, from {self.endpoint.address}")

    def count(self, reason: str) -> None:
        """Count a fault of the server's."""
        direction = dict(self.endpoint.http.labels).get("direction", OUTBOUND)
        self.parts.meter.count("http2_faults_total", (("direction", direction), ("reason", reason)))

    def on_gone(self) -> None:
        self.lose("server-closed")

    def on_link_closed(self) -> None:
        self.close()

    # its life

    def leave(self) -> None:
        """Take no more requests."""
        if self in self.endpoint.trunks:
            self.endpoint.trunks.remove(self)

    def retire(self) -> None:
        """The endpoint is gone: let the last streams end."""
        self.leave()
        if not self.streams:
            self.close()

    def lose(self, reason: str) -> None:
        """The connection is good for nothing any more: tell all exchanges."""
        streams = list(self.streams.values())
        self.streams.clear()
        self.close()
        for stream in streams:
            stream.lose(reason, 0)

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self.leave()
        self.parts.pool.trunks.pop(self, None)
        if self.streams:
            self.lose("server-closed")
        self.link.close()
        waiters, self.waiters = self.waiters, {}
        for finder in waiters:
            finder.on_dial_failed("server-closed")

    def _on_idle(self) -> None:
        self.idle_since_s = self.parts.pump.now_s
        if self not in self.endpoint.trunks:
            self.close()

    def check(self, now_s: float) -> None:
        """Close what is unused; ask a silent server (called by the sweep, a few times a second)."""
        config = self.parts.config
        if not self.streams:
            if now_s - self.idle_since_s > config.trunk_idle_timeout_s:
                self.close()
            return
        heard_s = self.link.heard_s
        if self._ping_s > heard_s:
            if now_s - self._ping_s > config.http2_ping_timeout_s:
                self.lose(f"ping-timeout:{self.endpoint.address}")
        elif now_s - heard_s > config.http2_ping_interval_s and self._is_sidecar:
            self._ping_s = now_s
            self.http2.ping()
            self.link.touch()
