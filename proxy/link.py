"""A channel that speaks HTTP/2: carries bytes between its socket and the state of its connection. Turn.

Theory of operation. What callbacks write is taken out of the connection once, when they have returned, and no more
than the channel has room for: the rest stays in the connection, where queues of streams can be seen one by one. So a
byte of a body counts as moved on when its stream's queue has become shorter; then the stream that it came from is
told, and its window opens (`Mover`). A peer that sends but does not read is read no further than BLIND_BYTES, since
every frame of it may need an answer that nobody takes.
"""

from typing import Final, Protocol

from proxy.channel import PAUSED_BY_TURN, SocketChannel
from proxy.config import Config
from proxy.errors import WireFault
from proxy.model import Headers
from proxy.pump import Flushable, Pump
from proxy.seams import ChannelUser, Timer
from proxy.wire.http2 import Http2
from proxy.wire.streams import Http2Sink, Settings

BLIND_BYTES: Final = 262144
"""Read from a peer that takes nothing: as much as a window, so that one who writes first and then reads can go on."""

_LAZY_RATIO: Final = 8
"""Of a stream's largest window this share may stay unacknowledged."""

UNSENT_BYTES: Final = 262144
"""Heads that may wait to be sent on a connection to a server; beyond, requests wait with their clients."""

LINGER_S: Final = 1.0
"""After the last words to a peer that may still be sending: see conversation.LINGER_S."""


class Windows:
    """The windows of the streams that a peer sends on: each begins small, and one that moves much may grow.

    What they grow by is bounded together, so that all of them fit into the connection's window and none waits for
    another (docs/adr/0018).
    """

    __slots__ = ("_extra_bytes", "_left_bytes", "_window_bytes", "lazy_bytes")

    def __init__(self, config: Config) -> None:
        self._window_bytes: int = config.http2_window_bytes
        self._extra_bytes = config.http2_window_bytes - config.first_window_bytes
        self._left_bytes: int = config.http2_shared_window_bytes
        self.lazy_bytes = min(config.http2_window_bytes // _LAZY_RATIO, config.first_window_bytes // 2)
        """Bytes below this are acknowledged at the end of the stream: most messages need no WINDOW_UPDATE, and whether
        they moved on need not be watched (fast: bench case `http2`)."""

    def grow(self, http2: Http2, stream_id: int) -> bool:
        """Enlarge a stream's window if there is room; tell whether it was."""
        if not 0 < self._extra_bytes <= self._left_bytes:
            return False
        self._left_bytes -= self._extra_bytes
        http2.enlarge(stream_id, self._window_bytes)
        return True

    def give_back(self) -> None:
        """A stream that had grown is over."""
        self._left_bytes += self._extra_bytes


class Mover(Protocol):
    """A stream whose outgoing bytes came from another one."""

    __slots__ = ()

    stream_id: int

    def on_moved(self, queued_bytes: int) -> None:
        """All but these have moved on."""
        ...


class LinkOwner(Http2Sink, Protocol):
    """A Multiplex or a Trunk."""

    __slots__ = ()

    def on_fault(self, fault: WireFault) -> None:
        """The peer broke HTTP/2; the last words are on their way."""
        ...

    def on_gone(self) -> None:
        """The peer has closed, or the connection broke: nothing moves any more."""
        ...

    def on_link_closed(self) -> None:
        """After `finish`: all is sent, and the channel closed."""
        ...

    def on_room(self) -> None:
        """The peer reads again: `unsent_bytes` are fewer than UNSENT_BYTES."""
        ...


class _Nobody(LinkOwner):
    """Owns a link that is closed."""

    def on_head(self, stream_id: int, fields: Headers, ended: bool) -> None: ...
    def on_informational(self, stream_id: int, fields: Headers) -> None: ...
    def on_body(self, stream_id: int, data: bytes, ended: bool) -> None: ...
    def on_trailers(self, stream_id: int, fields: Headers) -> None: ...
    def on_reset(self, stream_id: int, code: int) -> None: ...
    def on_malformed(self, stream_id: int, code: int) -> None: ...
    def on_closed(self, stream_id: int, code: int) -> None: ...
    def on_goaway(self, last_stream_id: int, code: int) -> None: ...
    def on_settings(self) -> None: ...
    def on_ping_ack(self) -> None: ...
    def on_over(self) -> None: ...
    def on_fault(self, fault: WireFault) -> None: ...
    def on_gone(self) -> None: ...
    def on_link_closed(self) -> None: ...
    def on_room(self) -> None: ...


_NOBODY: Final = _Nobody()


class Link(Flushable, ChannelUser):
    """Owns the channel and the HTTP/2 connection of its owner."""

    __slots__ = (
        "_blind_bytes",
        "_is_dirty",
        "_linger",
        "_moving",
        "_parting",
        "_pump",
        "channel",
        "heard_s",
        "http2",
        "is_finished",
        "owner",
        "unsent_bytes",
    )

    def __init__(self, owner: LinkOwner, channel: SocketChannel, pump: Pump, settings: Settings) -> None:
        self.owner: LinkOwner = owner
        self.channel = channel
        self.heard_s = pump.now_s
        """When the peer last said something."""
        self.http2 = Http2(owner, settings, pump.now_s)
        self._pump = pump
        self._is_dirty = False
        self.is_finished = False
        """Nothing more is read, and the channel closes as soon as all is sent."""
        self.unsent_bytes = 0
        """Memory of heads that wait for a peer that does not read."""
        self._blind_bytes = 0
        self._linger: Timer | None = None
        self._moving: dict[Mover, None] = {}
        self._parting: dict[int, int] = {}
        channel.user = self
        channel.resume(PAUSED_BY_TURN)  # who gathered the first bytes may have had enough
        self.touch()

    def __repr__(self) -> str:
        return f"<Link {self.http2!r} {self.channel!r}>"

    # from the channel

    def on_data(self, data: bytes) -> None:
        self.heard_s = now_s = self._pump.now_s
        if self.is_finished:
            return
        if self.channel.queued_bytes:
            self._read_blindly(len(data))
        try:
            self.http2.feed(data, now_s)
        except WireFault as fault:
            self.owner.on_fault(fault)
        self.channel.ack_if_awaited(len(data))
        self.touch()

    def on_eof(self) -> None:
        if self.is_finished:
            self._close()
        else:
            self.owner.on_gone()

    def on_lost(self, errno: str) -> None:
        self.on_eof()

    def _read_blindly(self, size_bytes: int) -> None:
        self._blind_bytes += size_bytes
        self.channel.on_flushed = self._on_flushed
        if self._blind_bytes > BLIND_BYTES:
            self.channel.pause(PAUSED_BY_TURN)

    def _on_flushed(self) -> None:
        self._blind_bytes = 0
        self.channel.resume(PAUSED_BY_TURN)
        self.touch()

    # sending

    def touch(self) -> None:
        """Something was written: take it out at the end of the turn."""
        if not self._is_dirty:
            self._is_dirty = True
            self._pump.mark_dirty(self)

    def flush(self) -> None:
        """Move what can be sent into the channel (called by the pump)."""
        self._is_dirty = False
        channel = self.channel
        if not channel.is_open:
            return
        room_bytes = channel.high_bytes - channel.queued_bytes
        if room_bytes > 0:
            taken_bytes = self._take(room_bytes)
            if self.unsent_bytes:
                self._count_sent(taken_bytes)
        if self._moving:
            self._move()
        if self._parting:
            self._part()
        if not self.http2.is_whole or room_bytes <= 0:
            channel.on_flushed = self._on_flushed

    def _count_sent(self, taken_bytes: int) -> None:
        """Heads go before bodies: what was taken were heads, as long as there were any."""
        was_full = self.unsent_bytes >= UNSENT_BYTES
        self.unsent_bytes = 0 if self.http2.is_whole else max(0, self.unsent_bytes - taken_bytes)
        if was_full and self.unsent_bytes < UNSENT_BYTES:
            self.owner.on_room()

    def _take(self, room_bytes: int) -> int:
        http2 = self.http2
        try:
            data = http2.take_output(room_bytes)
        except WireFault as fault:
            self.owner.on_fault(fault)
            data = http2.take_output(room_bytes)
        if data:
            self.channel.write(data)
        return len(data)

    def watch(self, mover: Mover) -> None:
        """Tell this stream how its queue shrinks, until it is empty."""
        self._moving[mover] = None

    def _move(self) -> None:
        http2 = self.http2
        for mover in list(self._moving):
            queued_bytes = http2.queued_bytes(mover.stream_id)
            if not queued_bytes:
                del self._moving[mover]
            mover.on_moved(queued_bytes)

    def part(self, stream_id: int, code: int) -> None:
        """Reset a stream as soon as what was written on it has been sent."""
        self._parting[stream_id] = code
        self.touch()

    def _part(self) -> None:
        for stream_id, code in list(self._parting.items()):
            if self.http2.is_drained(stream_id):
                del self._parting[stream_id]
                self.http2.reset(stream_id, code)
                self.touch()

    def forget(self, stream_id: int) -> None:
        """The stream has closed."""
        if self._parting:
            self._parting.pop(stream_id, None)

    # the end

    def finish(self) -> None:
        """Send what is left, then close, reading and dropping what still comes."""
        if self.is_finished:
            return
        self.is_finished = True
        channel = self.channel
        if not channel.is_open:
            self._close()
            return
        self._take(channel.high_bytes)
        channel.resume(PAUSED_BY_TURN)
        channel.on_flushed = self._on_last_flush
        channel.write_eof()

    def _on_last_flush(self) -> None:
        if self.channel.has_read_eof:
            self._close()
        else:
            self._linger = self._pump.call_at(self._pump.now_s + LINGER_S, self._close)

    def _close(self) -> None:
        owner = self.owner
        self.close()
        owner.on_link_closed()

    def close(self) -> None:
        """Close at once; what is not sent is lost."""
        self.is_finished = True
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        self._moving.clear()
        self._parting.clear()
        self.owner = _NOBODY
        self.http2.release(_NOBODY)
        self.channel.close()
