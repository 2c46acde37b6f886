"""One direction of a tunnel moved by the kernel: socket to pipe to socket. Turn.

Sources: splice(2); fcntl(2) F_SETPIPE_SZ; pipe(7) (an unprivileged process may ask for up to 1 MiB a pipe).
"""

import errno
import fcntl
import os
from collections.abc import Callable
from typing import Final

from proxy.channel import PAUSED_BY_PEER, SocketChannel
from proxy.pump import READ, WRITE, Pump

PIPE_BYTES: Final = 1048576
"""Capacity asked for: on loopback a gigabyte costs 290 ms of CPU with 1 MiB, 400 with 256 KiB, 680 by copying."""

MIN_PIPE_BYTES: Final = 65536
"""A smaller pipe is worse than copying. The kernel gives such ones when a user's pipes hold more than 64 MiB together,
and all sidecars of a machine are one user."""

ROUNDS_COUNT: Final = 4
"""Fills of the pipe in one wake: at most 4 MiB, a few milliseconds, until other connections have their turn."""

_FLAGS: Final = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


class Splice:
    """Takes the source's READ events and the sink's WRITE events; everything else stays with the channels."""

    __slots__ = (
        "_capacity_bytes",
        "_held_bytes",
        "_in",
        "_is_ended",
        "_on_end",
        "_on_lost",
        "_out",
        "_pump",
        "_sink",
        "_source",
    )

    def __init__(
        self,
        pump: Pump,
        source: SocketChannel,
        sink: SocketChannel,
        on_end: Callable[[], None],
        on_lost: Callable[[str], None],
    ) -> None:
        """Make the pipe; raises OSError when there is none to have."""
        self._out, self._in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._capacity_bytes = _widen(self._in)
        if self._capacity_bytes < MIN_PIPE_BYTES:
            self.close()
            raise OSError(errno.EPERM, "no room for a pipe worth having")
        self._pump = pump
        self._source = source
        self._sink = sink
        self._on_end = on_end
        self._on_lost = on_lost
        self._held_bytes = 0
        self._is_ended = False
        pump.intercept(source.fd, READ, self._pull)
        source.hand_over()
        pump.intercept(sink.fd, WRITE, self._push)

    def _pull(self) -> None:
        """Source to pipe to sink, while there is plenty and the sink takes it."""
        for _ in range(ROUNDS_COUNT):
            moved = self._fill()
            if self._in < 0 or (moved < 0 and not self._held_bytes):
                return
            self._push()
            if moved < MIN_PIPE_BYTES or self._held_bytes:
                return

    def _fill(self) -> int:
        """Source to pipe; 0 at the end, -1 when nothing was moved."""
        try:
            moved = os.splice(self._source.fd, self._in, self._capacity_bytes, flags=_FLAGS)
        except BlockingIOError:
            return -1  # nothing to read, or the pipe is full
        except OSError as error:
            self._on_lost(errno_name(error))
            return -1
        if moved:
            self._held_bytes += moved
            self._source.series.read_bytes += moved
            self._source.active_s = self._pump.now_s
            self._source.ack_if_awaited(moved)
        else:
            self._is_ended = True
            self._source.end_reading()
        return moved

    def _push(self) -> None:
        """Pipe to sink; read no more while it takes no more."""
        while self._held_bytes:
            try:
                moved = os.splice(self._out, self._sink.fd, self._held_bytes, flags=_FLAGS)
            except BlockingIOError:
                self._source.pause(PAUSED_BY_PEER)
                self._sink.want(WRITE, True)
                return
            except OSError as error:
                self._on_lost(errno_name(error))
                return
            self._held_bytes -= moved
            self._sink.series.write_bytes += moved
            self._sink.active_s = self._pump.now_s
            self._sink.unanswered_s = 0.0
        self._sink.want(WRITE, False)
        if self._is_ended:
            self._on_end()
        else:
            self._source.resume(PAUSED_BY_PEER)

    def close(self) -> None:
        """Give the pipe back; what it still holds is lost."""
        if self._in >= 0:
            os.close(self._in)
            os.close(self._out)
            self._in = self._out = -1


def _widen(pipe: int) -> int:
    """Make a pipe as large as the kernel lets us; tell its capacity in bytes."""
    for capacity_bytes in (PIPE_BYTES, PIPE_BYTES // 4):
        try:
            return fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, capacity_bytes)
        except OSError:
            pass  # the user's pipes are many: a smaller one does too
    return fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)


def errno_name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "UNKNOWN")
