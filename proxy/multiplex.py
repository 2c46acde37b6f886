"""A client's HTTP/2 connection: many requests at once, each a stream with an exchange of its own. Turn."""

from math import inf
from typing import TYPE_CHECKING, Final

from proxy.channel import SocketChannel
from proxy.errors import WireFault
from proxy.link import Link, LinkOwner, Windows
from proxy.model import Direction, Headers
from proxy.parts import Limited, Parts
from proxy.stream import Stream
from proxy.targets import Target
from proxy.wire.http2_head import read_request
from proxy.wire.streams import CANCEL, INTERNAL_ERROR, NO_ERROR, Settings

if TYPE_CHECKING:
    from proxy.session import Session

_LINK_BYTES: Final = 20480
"""What an HTTP/2 connection takes that carries nothing (libnghttp2's and HPACK's state)."""


class Multiplex(LinkOwner, Limited):
    """Owner of the link to a client."""

    __slots__ = (
        "_ends_at_s",
        "_is_over",
        "_max_fields_count",
        "_max_head_bytes",
        "_since_s",
        "direction",
        "http2",
        "idle_since_s",
        "lazy_bytes",
        "link",
        "parts",
        "session",
        "streams",
        "target",
        "windows",
    )

    def __init__(self, session: "Session", channel: SocketChannel, target: Target) -> None:
        self.session = session
        self.parts: Parts = session.parts
        self.target = target
        self.direction: Direction = target.direction
        self.streams: dict[int, Stream] = {}
        self.idle_since_s = self._since_s = self.parts.pump.now_s
        self._ends_at_s = 0.0
        self._is_over = False
        config = self.parts.config
        self.windows = Windows(config)
        self.lazy_bytes = self.windows.lazy_bytes
        self._max_head_bytes: int = config.max_head_bytes
        self._max_fields_count: int = config.max_fields_count
        settings = Settings(
            True,
            config.http2_streams_count,
            config.first_window_bytes,
            config.connection_window_bytes(config.http2_streams_count),
            config.max_head_bytes,
            config.max_fields_count,
        )
        self.link = Link(self, channel, self.parts.pump, settings)
        self.http2 = self.link.http2

    def __repr__(self) -> str:
        return f"<Multiplex for {self.target} streams={len(self.streams)} {self.link.channel!r}>"

    def on_data(self, data: bytes) -> None:
        """Take what the client has said before this was made; later bytes come from the channel."""
        self.link.on_data(data)

    def on_eof(self) -> None:
        self.link.on_eof()

    def acknowledge(self, stream: Stream, size_bytes: int) -> None:
        stream.moved_bytes += size_bytes
        if stream.moved_bytes > self.lazy_bytes // 2:  # else no window opens by it (fast)
            stream.moved_bytes = 0
            if not stream.has_grown and stream.exchange is not None:
                stream.has_grown = self.windows.grow(self.http2, stream.stream_id)
            self.link.touch()
        self.http2.acknowledge(stream.stream_id, size_bytes)

    # from the connection

    def on_head(self, stream_id: int, fields: Headers, ended: bool) -> None:
        self.streams[stream_id] = stream = Stream(self, stream_id)
        try:
            head = read_request(fields, ended, self._max_head_bytes, self._max_fields_count)
        except WireFault as fault:
            self._count(fault)
            stream.answer(fault.reason, fault.detail)
            if not ended:
                self.link.part(stream_id, NO_ERROR)
            return
        self.parts.pump.fresh_bytes += head.memory_bytes
        stream.on_request(head)

    def on_informational(self, stream_id: int, fields: Headers) -> None:
        """A client makes no responses."""

    def on_body(self, stream_id: int, data: bytes, ended: bool) -> None:
        stream = self.streams.get(stream_id)
        if stream is not None:
            stream.on_body(data, ended)
        elif data:
            self.http2.acknowledge(stream_id, len(data))

    def on_trailers(self, stream_id: int, fields: Headers) -> None:
        stream = self.streams.get(stream_id)
        if stream is not None and stream.exchange is not None:
            stream.exchange.end_request(fields)

    def on_reset(self, stream_id: int, code: int) -> None:
        stream = self.streams.get(stream_id)
        if stream is not None:
            self._abort(stream, code, f"reset with code {code}")

    def on_malformed(self, stream_id: int, code: int) -> None:
        self._count(WireFault("malformed-message"))
        told = f"stream {stream_id} of {self.session.visitor.ip}, for {self.target}"
        self.parts.notice(self.direction, "malformed-message", told)

    def on_closed(self, stream_id: int, code: int) -> None:
        self.link.forget(stream_id)
        stream = self.streams.pop(stream_id, None)
        if stream is not None:
            self._abort(stream, code or CANCEL, "broke its stream")
            if stream.has_grown:
                self.windows.give_back()
        if not self.streams:
            self.idle_since_s = self.parts.pump.now_s

    def on_goaway(self, last_stream_id: int, code: int) -> None:
        """The client opens no more streams: `on_over` follows the last."""

    def on_settings(self) -> None:
        """Of the client's settings libnghttp2 alone needs to know."""

    def on_ping_ack(self) -> None:
        """We ask clients nothing."""

    def on_over(self) -> None:
        self.link.finish()

    def on_fault(self, fault: WireFault) -> None:
        """The client broke HTTP/2: say so, and end."""
        self._count(fault)
        self.parts.notice(self.direction, fault.reason, f"{fault.detail}, for {self.target}")
        self._abort_streams(CANCEL)
        self.link.finish()

    def on_gone(self) -> None:
        self._abort_streams(CANCEL)
        self._close()

    def on_room(self) -> None:
        """Responses do not wait: the client's own streams bound them."""

    def on_link_closed(self) -> None:
        self._abort_streams(CANCEL)
        self._leave()

    def _count(self, fault: WireFault) -> None:
        self.parts.meter.count("http2_faults_total", (("direction", self.direction), ("reason", fault.reason)))

    # the end

    def _abort_streams(self, code: int) -> None:
        streams = list(self.streams.values())
        self.streams.clear()
        for stream in streams:
            self._abort(stream, code, "before its answer")

    def _abort(self, stream: Stream, code: int, told: str) -> None:
        """End a stream whose client is gone, or as good as gone: if it was waiting, each one counts."""
        if stream.exchange is not None:
            self.parts.notice(self.direction, "client-closed", f"{told}, for {self.target}")
        stream.abort(code)

    def _close(self) -> None:
        self.link.close()
        self._leave()

    def _leave(self) -> None:
        if not self._is_over:
            self._is_over = True
            self.session.on_done()

    def abort(self, reason: str) -> None:
        """End at once, with an answer where one is due."""
        if self.link.is_finished:
            self._close()
            return
        for stream in list(self.streams.values()):
            exchange = stream.exchange
            if exchange is None:
                continue
            has_response = exchange.status != 0
            last_words = exchange.last_words(reason, f"for {self.target}")
            exchange.abort(CANCEL, last_words)
            if has_response:
                self.parts.notice(self.direction, reason, f"in the middle of a response, for {self.target}")
                stream.cut(INTERNAL_ERROR, last_words)
            else:
                stream.answer(reason, f"for {self.target}")
        self.http2.end()
        self.link.flush()
        self.link.finish()

    # limits

    @property
    def is_idle(self) -> bool:
        return not self.streams

    @property
    def source(self) -> str:
        return self.session.source

    @property
    def held_bytes(self) -> int:
        link = self.link
        held_bytes = _LINK_BYTES + link.channel.queued_bytes + link.unsent_bytes + self.http2.held_bytes
        for stream in self.streams.values():
            held_bytes += stream.held_bytes
        return held_bytes

    def shed(self, need_bytes: int) -> int:
        """Cut the largest streams, or all where the client takes nothing, or holds nothing but the connection."""
        streams = [(stream.held_bytes + self.http2.queued_bytes(n), n) for n, stream in self.streams.items()]
        held_bytes = self.held_bytes
        if self.link.channel.queued_bytes or not streams:
            self.parts.notice(self.direction, "memory-shed", f"{held_bytes} bytes, for {self.target}")
            self._abort_streams(CANCEL)
            self._close()
            return held_bytes
        streams.sort()
        freed_bytes = 0
        while streams and freed_bytes < need_bytes:
            size_bytes, stream_id = streams.pop()
            freed_bytes += size_bytes
            self.streams[stream_id].shed()
        self.link.flush()  # what is queued on a stream is freed when its reset has been taken out
        return freed_bytes

    def check(self, now_s: float) -> None:
        """End what has lasted too long (called by the sweep, a few times a second)."""
        config = self.parts.config
        for stream in list(self.streams.values()):
            if stream.exchange is not None:
                stream.exchange.check(now_s)
            elif now_s - stream.active_s > config.stream_idle_timeout_s:
                stream.cut(CANCEL)  # its answer is whole, and the client takes no more of it
        if self._ends_at_s:
            if now_s >= self._ends_at_s:
                self._ends_at_s = inf
                self.http2.end()
                self.link.touch()
        elif self.parts.is_draining:
            self._part(now_s)
        elif not self.http2.is_acknowledged and now_s - self._since_s > config.head_timeout_s:
            self.on_fault(self.http2.fault("head-timeout", "no acknowledgement of the settings"))
        elif not self.streams and now_s - self.idle_since_s > config.client_idle_timeout_s:
            self._part(now_s)

    def _part(self, now_s: float) -> None:
        """Ask the client to open no more streams; a round trip later refuse those that it still opens."""
        self._ends_at_s = now_s + self.parts.config.drain_idle_s / 2
        self.http2.announce_end()
        self.link.touch()
