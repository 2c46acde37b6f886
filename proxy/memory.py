"""Gives memory back after a burst of connections; knows how much there is. Edge.

Theory of operation. A connection costs a few kilobytes of small objects, and buffers while it is busy. When most of a
burst's connections are gone, what they left is in three places: objects in cycles, which wait for a collection; free
lists of CPython, which a full collection empties; and free pieces of the C library's heap between pieces in use, which
malloc_trim gives back to the kernel. All three take a few milliseconds, so it is done once for each burst, and only
when things have calmed down.

CPython keeps small objects by their size: pools of 16 KB, in arenas of a megabyte that go back to the kernel when they
are empty, and not before. One object that outlives a burst can so keep a megabyte of it. What keeps them few stands
elsewhere: a connection that is over is gone at once (tests/proxy/test_garbage.py), so that its memory serves what comes
next; connections hold no objects of the sizes that lasting values have (boxed numbers, short bytes); and what lasts is
made before the first connection, or counted in place.

Sources: malloc_trim(3); mallopt(3), M_ARENA_MAX; CPython's Objects/obmalloc.c, "Arenas".
"""

import gc
import resource
from collections.abc import Callable
from typing import Final

BURST_COUNT: Final = 64
"""Connections that must have gone since the peak: fewer are not worth a collection."""

CALM_S: Final = 1.0
"""Seconds in which the number of connections must not have grown."""

COLLECT_COUNT: Final = 1000
"""Open connections above which no collection is made: it would look at all of theirs, and they would wait."""

DEFAULT_LIMIT_BYTES: Final = 268435456
"""Where nothing says how much there is: a little more than the webhook's default for the container."""

_UNLIMITED_BYTES: Final = 2**60
"""What version 1 of cgroups calls no limit is the largest number of pages."""

_M_ARENA_MAX: Final = -8


def _c_library() -> Callable[[], None] | None:
    """Find glibc's malloc_trim; other C libraries have none and need none."""
    import ctypes

    try:
        library = ctypes.CDLL(None)
        trim = library.malloc_trim
        # The few threads there are (name resolution) need no arenas of their own: each would keep its own leftovers.
        library.mallopt(_M_ARENA_MAX, 1)
    except (OSError, AttributeError):
        return None

    def give_back() -> None:
        trim(0)

    return give_back


def resident_bytes() -> int:
    """Tell how large the process is now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def limit_bytes(root: str = "/sys/fs/cgroup", of: str = "/proc/self/cgroup") -> int:
    """Find what the container may use (memory.max, or version 1's memory.limit_in_bytes); 0 where nothing limits it."""
    found = []
    try:
        with open(of) as file:
            lines = [line.strip().split(":", 2) for line in file]
    except OSError:
        return 0
    for _, controllers, path in lines:
        if controllers and "memory" not in controllers.split(","):
            continue
        base, name = (f"{root}/memory", "memory.limit_in_bytes") if controllers else (root, "memory.max")
        parts = [part for part in path.split("/") if part and part != ".."]
        for depth in range(len(parts) + 1):  # those above limit too; in a container its own is the root
            try:
                with open("/".join([base, *parts[:depth], name])) as file:
                    text = file.read().strip()
            except OSError:
                continue
            if text.isdecimal() and int(text) < _UNLIMITED_BYTES:
                found.append(int(text))
    return min(found, default=0)


class Trimmer:
    """Sees how many connections there are; trims when a burst is over."""

    def __init__(self, give_back: Callable[[], None] | None = None) -> None:
        self._give_back = give_back or _c_library()
        self._peak_count = 0
        self._last_count = 0
        self._calm_since_s = 0.0
        self.trims_count = 0

    def look(self, connections_count: int, now_s: float) -> None:
        """Trim when half of a burst's connections are gone and no more come."""
        if connections_count > self._last_count:
            self._calm_since_s = now_s
        self._last_count = connections_count
        self._peak_count = max(self._peak_count, connections_count)
        gone_count = self._peak_count - connections_count
        is_over = gone_count >= BURST_COUNT and connections_count <= self._peak_count // 2
        if is_over and now_s - self._calm_since_s >= CALM_S:
            self._peak_count = connections_count
            self.trim(connections_count <= COLLECT_COUNT)

    def trim(self, collects: bool) -> None:
        """Give back what can be given back, now."""
        self.trims_count += 1
        if collects:
            gc.collect()
        if self._give_back is not None:
            self._give_back()
