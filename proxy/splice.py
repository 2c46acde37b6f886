"""One direction of a tunnel moved by the kernel: socket to pipe to socket. Turn.

Sources: splice(2); fcntl(2) F_SETPIPE_SZ; pipe(7) (an unprivileged process may ask for up to 1 MiB a pipe).
"""

import fcntl
import os
from collections.abc import Callable
from typing import Final

from proxy.channel import PAUSED_BY_PEER, SocketChannel
from proxy.pump import READ, WRITE, Pump

PIPE_BYTES: Final = 262144
"""Capacity asked for: enough that one wake moves a few segments; less is given when the user's pipes are many."""

_FLAGS: Final = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


class Splice:
    """Takes the source's READ events and the sink's WRITE events; everything else stays with the channels."""

    __slots__ = ("_held_bytes", "_in", "_is_ended", "_on_end", "_on_lost", "_out", "_pump", "_sink", "_source")

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
        try:
            fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:
            pass  # the default of 64 KiB works too
        self._pump = pump
        self._source = source
        self._sink = sink
        self._on_end = on_end
        self._on_lost = on_lost
        self._held_bytes = 0
        self._is_ended = False
        pump.intercept(source.fd, READ, self._pull)
        pump.intercept(sink.fd, WRITE, self._push)

    def _pull(self) -> None:
        """Source to pipe, then on."""
        try:
            moved = os.splice(self._source.fd, self._in, PIPE_BYTES, flags=_FLAGS)
        except BlockingIOError:
            if not self._held_bytes:
                return
            moved = -1  # the pipe is full
        except OSError as error:
            self._on_lost(errno_name(error))
            return
        if moved > 0:
            self._held_bytes += moved
            self._source.series.read_bytes += moved
            self._source.active_s = self._pump.now_s
        elif moved == 0:
            self._is_ended = True
            self._source.end_reading()
        self._push()

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


def errno_name(error: OSError) -> str:
    from errno import errorcode

    return errorcode.get(error.errno or 0, "UNKNOWN")
