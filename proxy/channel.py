"""A non-blocking socket as a Channel: reads in buffers, writes in one go, holds back the other side. Turn."""

import socket
from collections.abc import Callable
from errno import errorcode
from typing import Final

from proxy.meter import TcpSeries
from proxy.pump import BROKEN, EDGE, MORE, READ, WRITE, Flushable, Handler, Pump
from proxy.seams import ChannelUser

PAUSED_BY_PEER: Final = 1
"""The channel that our bytes go to is congested."""
PAUSED_BY_TURN: Final = 2
"""The bytes that would arrive belong to later; their turn has not come."""
_PAUSED_BY_EOF: Final = 4
"""Nothing more will come."""

_GATHER_BYTES: Final = 16384
"""Up to here pieces are joined before they are sent; above, the kernel gathers them (copying would cost more)."""

_GATHER_COUNT: Final = 64
"""Pieces handed to the kernel at once; far below IOV_MAX (1024)."""

_DELAYED_LEAST_S: Final = 0.035
_DELAYED_MOST_S: Final = 0.07
"""Between two pieces of a peer that waited for the kernel's delayed acknowledgement: Linux delays for 40 milliseconds,
and the round trip comes on top."""

_QUIET_COUNT: Final = 16
"""With more descriptors ready in one turn the sidecar is busy, and peers wait for it and not for the kernel."""

_ACKS_COUNT: Final = 256
"""Pieces acknowledged at once after such a wait; then it must be seen again. A wait in so many is no more than a fifth
of a millisecond for each, and where it was a coincidence, this many acknowledgements were sent for nothing."""

_SEGMENT_BYTES: Final = 65536
"""No segment is larger: Nagle's algorithm holds back less than one, and more than one is acknowledged at once."""

_RESET: Final = b"\x01\x00\x00\x00\x00\x00\x00\x00"
"""struct linger {1, 0}: close with RST."""


class _Nobody(ChannelUser):
    """Hears a channel that nobody listens to any more, or not yet."""

    def on_data(self, data: bytes) -> None: ...
    def on_eof(self) -> None: ...
    def on_lost(self, errno: str) -> None: ...


_NOBODY: Final = _Nobody()


class SocketChannel(Flushable, Handler):
    """Owns a connected socket from construction to `close`.

    Its `user` hears buffers as they came. `on_flushed` is called once, when all written bytes have left for the kernel.
    What is written is sent at the end of the turn; the channel keeps a reference to it. `feed_from` names the channel
    to pause while this one is congested (more than `high_bytes` unsent, until less than `low_bytes`).
    """

    __slots__ = (
        "_acks_count",
        "_edge",
        "_events",
        "_is_congested",
        "_is_eof_written",
        "_is_registered",
        "_out",
        "_paused",
        "_pump",
        "_read_bytes",
        "_recv",
        "_send",
        "_source",
        "active_s",
        "fd",
        "has_read_eof",
        "high_bytes",
        "is_open",
        "low_bytes",
        "on_flushed",
        "queued_bytes",
        "series",
        "sock",
        "unanswered_s",
        "user",
    )

    def __init__(
        self, pump: Pump, sock: socket.socket, series: TcpSeries, read_bytes: int, high_bytes: int, low_bytes: int
    ) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.series = series
        self.high_bytes = high_bytes
        self.low_bytes = low_bytes
        self.is_open = True
        self.has_read_eof = False
        """The peer has ended its direction."""
        self.queued_bytes = 0
        self.active_s = pump.now_s
        self.unanswered_s = 0.0
        """When the peer last spoke, if nothing was sent since, which acknowledges it."""
        self.user: ChannelUser = _NOBODY
        self.on_flushed: Callable[[], None] | None = None
        self._pump = pump
        self._recv = sock.recv
        self._send = sock.send
        self._read_bytes = read_bytes
        self._out: list[bytes] = []
        self._source: SocketChannel | None = None
        self._paused = 0
        self._acks_count = 0
        self._events = READ
        self._edge: int = EDGE
        self._is_congested = False
        self._is_eof_written = False
        self._is_registered = True
        series.opened += 1
        series.open_now += 1
        pump.register(self.fd, READ | EDGE, self)

    def __repr__(self) -> str:
        state = "open" if self.is_open else "closed"
        return f"<SocketChannel fd={self.fd} {state} queued={self.queued_bytes} paused={self._paused}>"

    # events

    def on_ready(self, events: int) -> None:
        """Take the pump's events."""
        if events & READ:
            if self.has_read_eof:
                self.want(READ, False)  # the other direction lasts
            else:
                size_bytes = self._read()
                if size_bytes < 0:
                    return
                if size_bytes == self._read_bytes or (events & (MORE | BROKEN) and size_bytes):
                    self._look_again()
        if events & WRITE:
            self.flush()
        elif events & BROKEN and not events & READ and self.is_open:
            self._on_broken()

    def _read(self) -> int:
        """Take one buffer; tell its size in bytes: 0 at the end, -1 when there was neither."""
        try:
            data = self._recv(self._read_bytes)
        except (BlockingIOError, InterruptedError):
            return -1
        except OSError as error:
            self._lose(error)
            return -1
        self.active_s = self._pump.now_s
        size_bytes = len(data)
        if size_bytes:
            self.series.read_bytes += size_bytes
            pump = self._pump
            pump.fresh_bytes += size_bytes
            if pump.fresh_bytes > pump.full_at_bytes:
                pump.on_full()  # which may close this channel too: then nobody hears what came
            self.user.on_data(data)
        else:
            # Mostly the connection is closed before the next turn, and to ask for less would cost a system call.
            self.has_read_eof = True
            self._paused |= _PAUSED_BY_EOF
            self.user.on_eof()
        return size_bytes

    def _look_again(self) -> None:
        """There may be more to read: tell of it in the next turn."""
        if self.is_open and self._is_registered and self._events == READ:
            self._pump.modify(self.fd, READ | self._edge)

    def hand_over(self) -> None:
        """Another one reads: tell in every turn that there is something."""
        self._edge = 0
        self._look_again()

    def end_reading(self) -> None:
        """Nothing more will come: stop asking for it."""
        self.has_read_eof = True
        self._paused |= _PAUSED_BY_EOF
        self.want(READ, False)

    def want(self, event: int, wanted: bool) -> None:
        """Ask the pump for an event, or ask no more."""
        self._set_events(self._events | event if wanted else self._events & ~event)

    def _on_broken(self) -> None:
        number = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self._lose(OSError(number, ""))
        elif self._is_registered and not self._events & READ:
            # Both directions have ended and we do not read: epoll would tell again and again.
            self._pump.suspend(self.fd)
            self._is_registered = False

    def _lose(self, error: OSError) -> None:
        name = errorcode.get(error.errno or 0, "UNKNOWN")
        user = self.user
        self._shut(name)
        user.on_lost(name)

    def ack(self, size_bytes: int) -> None:
        """Acknowledge now a piece that has come, although nothing is to be answered yet.

        A peer that gathers small pieces (Nagle's algorithm, on by default) sends the rest of its message only then,
        and the kernel would wait for bytes of ours to carry the acknowledgement, for 40 milliseconds.
        """
        if self.is_open and size_bytes < _SEGMENT_BYTES:
            try:
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            except OSError:
                pass  # broken: the next read tells

    def ack_if_awaited(self, size_bytes: int) -> None:
        """Acknowledge now a piece from a peer that has been seen to wait for it (where no end of a message is
        known: to do it always would send a packet more for every piece)."""
        now_s = self._pump.now_s
        is_late = self.unanswered_s > 0.0 and _DELAYED_LEAST_S < now_s - self.unanswered_s < _DELAYED_MOST_S
        if is_late and self._pump.ready_count <= _QUIET_COUNT:
            self._acks_count = _ACKS_COUNT
        self.unanswered_s = now_s
        if self._acks_count:
            self._acks_count -= 1
            self.ack(size_bytes)

    # writing

    def write(self, data: bytes) -> None:
        if not self.is_open:
            return
        self.queued_bytes = queued_bytes = self.queued_bytes + len(data)
        if not self._out or (queued_bytes > self.high_bytes and not self._is_congested):
            self._pump.mark_dirty(self)
        self._out.append(data)

    def write_eof(self) -> None:
        self._is_eof_written = True
        self._pump.mark_dirty(self)

    def flush(self) -> None:
        """Send what is queued, as much as the kernel takes."""
        out = self._out
        if out:
            try:
                sent = self._send(out[0]) if len(out) == 1 else self._send_many(out)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                if self.is_open:
                    self._lose(error)
                return
            if sent == self.queued_bytes:
                out.clear()
                self.queued_bytes = 0
            elif sent:
                self._forget(sent)
            self.series.write_bytes += sent
            self.active_s = self._pump.now_s
            self.unanswered_s = 0.0
        if self.queued_bytes or self._events & WRITE or self._is_congested:
            self._balance()
        if not self.queued_bytes and (self._is_eof_written or self.on_flushed is not None):
            self._end_flush()

    def _send_many(self, out: list[bytes]) -> int:
        if self.queued_bytes <= _GATHER_BYTES:
            return self._send(b"".join(out))
        return self.sock.sendmsg(out[:_GATHER_COUNT])

    def _forget(self, sent: int) -> None:
        self.queued_bytes -= sent
        out = self._out
        done = 0
        while sent and sent >= len(out[done]):
            sent -= len(out[done])
            done += 1
        del out[:done]
        if sent:
            out[0] = out[0][sent:]

    def _balance(self) -> None:
        """Ask to be told when there is room; hold back the source above the high mark until below the low one."""
        if self.queued_bytes:
            self._set_events(self._events | WRITE)
        else:
            self._set_events(self._events & ~WRITE)
        if not self._is_congested:
            if self.queued_bytes > self.high_bytes:
                self._is_congested = True
                if self._source is not None:
                    self._source.pause(PAUSED_BY_PEER)
        elif self.queued_bytes <= self.low_bytes:
            self._is_congested = False
            if self._source is not None:
                self._source.resume(PAUSED_BY_PEER)

    def _end_flush(self) -> None:
        callback, self.on_flushed = self.on_flushed, None
        if self._is_eof_written and not (self.has_read_eof and callback is not None):
            self._shut_writing()
        if callback is not None:
            callback()  # when both directions have ended it mostly closes, which tells the peer as well
            if self._is_eof_written and self.is_open:
                self._shut_writing()

    def _shut_writing(self) -> None:
        self._is_eof_written = False
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # already gone: the read side tells

    # holding back

    def feed_from(self, source: "SocketChannel | None") -> None:
        old = self._source
        if old is source:
            return
        self._source = source
        if self._is_congested:
            if old is not None:
                old.resume(PAUSED_BY_PEER)
            if source is not None:
                source.pause(PAUSED_BY_PEER)

    def pause(self, reason: int) -> None:
        self._paused |= reason
        if self.is_open and self._events & READ:
            self._set_events(self._events & ~READ)

    def resume(self, reason: int) -> None:
        self._paused &= ~reason
        if not self._paused and self.is_open:
            if not self._is_registered:
                self._is_registered = True
                self._events = READ
                self._pump.rejoin(self.fd, READ | self._edge)
            else:
                self._set_events(self._events | READ)

    def _set_events(self, events: int) -> None:
        if events != self._events and self.is_open:
            self._events = events
            if self._is_registered:
                self._pump.modify(self.fd, events | self._edge if events == READ else events)

    # the end

    def close(self) -> None:
        """Close in order; where the kernel does not take now what is left, break off instead (see `on_flushed`)."""
        if self._out:
            self._offer()
        self.abort() if self.queued_bytes else self._shut("")

    def _offer(self) -> None:
        """Send what was written since the last flush, telling nobody."""
        try:
            sent = self._send_many(self._out)
        except OSError:
            return
        self.queued_bytes -= sent
        self.series.write_bytes += sent

    def abort(self) -> None:
        if self.is_open:
            try:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            except OSError:
                pass
            self._shut("")

    def _shut(self, errno: str) -> None:
        if not self.is_open:
            return
        self.feed_from(None)
        self.is_open = False
        self._pump.leave(self.fd)
        self.sock.close()
        self._out.clear()
        self.queued_bytes = 0
        # Who heard this channel also holds it: let go, so that neither waits for the garbage collector.
        self.user = _NOBODY
        self.on_flushed = None
        self.series.close(errno)
