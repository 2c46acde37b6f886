"""A worker's place in the parent: its listening sockets, and the process that runs there. Edge.

Sources: fork(2); waitid(2).
"""

import os
import signal
import socket
from contextlib import suppress
from typing import Final

from proxy.worker import State, ToWorker, frame

PAUSE_MIN_S: Final = 0.05
PAUSE_MAX_S: Final = 10.0
"""Seconds until a worker that ended is replaced: doubled each time, from the start again after STEADY_S of life."""
STEADY_S: Final = 30.0


class Slot:
    """A worker's place: its listening sockets, and the process that runs in it, if one does."""

    def __init__(self, listening: dict[int, list[socket.socket]]) -> None:
        self.listening = listening
        self.pid = 0
        self.number = 0
        """Of the worker, never used again."""
        self.sock: socket.socket | None = None
        self.held = bytearray()
        self.state = State(False, False)
        self.started_s = 0.0
        self.due_s = 0.0
        """When it shall be filled, if it is empty."""
        self.pause_s = PAUSE_MIN_S

    def __repr__(self) -> str:
        return f"<Slot pid={self.pid} number={self.number} {self.state}>"

    def fork(self, number: int, now_s: float) -> "socket.socket | None":
        """Make the process; in it, return its end of the socket to the parent, in the parent None."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        self.held.clear()
        self.number = number
        self.state = State(False, False)
        self.started_s = now_s
        pid = os.fork()
        if not pid:
            ours.close()
            return theirs
        theirs.close()
        self.sock = ours
        self.pid = pid
        return None

    def clear(self) -> str:
        """End the process if it has not; name why it ended: its exit code or its signal."""
        if not has_ended(self.pid):
            os.kill(self.pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        if self.sock is not None:
            self.sock.close()
            self.sock = None
        self.pid = 0
        self.state = State(False, False)
        return signal.Signals(-code).name if code < 0 else str(code)

    def wait(self, now_s: float) -> None:
        """Be filled again after a pause: a short one, when the last process has lived for long."""
        self.pause_s = PAUSE_MIN_S if now_s - self.started_s > STEADY_S else min(PAUSE_MAX_S, 2 * self.pause_s)
        self.due_s = now_s + self.pause_s

    def send(self, message: ToWorker) -> None:
        """Tell the worker; one that does not read is not waited for."""
        if self.sock is not None:
            with suppress(OSError):
                self.sock.send(frame(message))

    def close_listening(self) -> None:
        for socks in self.listening.values():
            for sock in socks:
                sock.close()

    def forget(self) -> None:
        """Close what a fork has copied of another's place."""
        if self.sock is not None:
            self.sock.close()
        self.close_listening()


def has_ended(pid: int) -> bool:
    """Tell whether a child has ended; it stays to be waited for."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
