"""The lock that all programs for the legacy tables take. Edge.

A commit replaces the whole table: without the lock, what another program committed since our snapshot would be lost.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from init.errors import BackendError

PATH = "/run/xtables.lock"
"""iptables' own path, and its own variable to change it, XTABLES_LOCKFILE."""
WAIT_S = 5.0
PAUSE_S = 0.01


@contextmanager
def table_lock(path: str | None = None, wait_s: float = WAIT_S) -> Iterator[None]:
    """Hold the lock. Raises BackendError when another program keeps it for too long.

    Where its file cannot be made (a read-only file system) no other program can have it either.
    """
    name = path or os.environ.get("XTABLES_LOCKFILE", PATH)
    try:
        descriptor = os.open(name, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o600)
    except OSError:
        yield
        return
    try:
        _acquire(descriptor, name, wait_s)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, name: str, wait_s: float) -> None:
    end_s = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end_s:
                raise BackendError(f"{name} is held by another program for more than {wait_s:g} s") from None
            time.sleep(PAUSE_S)
        else:
            return
