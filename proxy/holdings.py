"""What clients make the sidecar hold in memory, and whose connection is cut when it is too much. Turn.

Theory of operation. Every session tells what it holds: bytes that wait for a slow reader, requests kept for another
try, heads, the state of HTTP/2. All of it is counted a few times a second, and as soon as half of the room that was
left has been read from sockets or unpacked from HPACK since the last count: so between two counts no more can gather
than there was room for. What is read costs one addition (SocketChannel).

When all hold more than they may, the source (direction and address) whose sessions hold the most loses its largest one,
again and again, until a quarter of the limit is free. An attacker from one address so loses its own connections, and
those who hold a few kilobytes lose nothing.

What they may hold is half of what the process has beyond its size when idle; the other half is for what is not counted:
fragments, and the objects of connections. When the process itself comes near its limit all the same, memory is given
back to the kernel, and half of what is held is cut. Where connections alone leave no room, no more are accepted.
"""

import heapq
from collections.abc import Callable
from typing import Final

from proxy.meter import Meter
from proxy.multiplex import Multiplex
from proxy.parts import Limited, Parts

SESSION_BYTES: Final = 4096
"""What a connection costs that holds nothing: 2 KB compiled, and as much for what CPython keeps beside it."""

FLOOR_BYTES: Final = 8388608
"""What sessions may always hold; where less is left, no more connections are accepted."""

SMALL_BYTES: Final = 4096
"""A session that holds less is never cut: that would free nothing worth a client."""

FREE_RATIO: Final = 4
"""One part of so many is free after a cut."""

NEAR_RATIO: Final = 0.9
"""Share of its memory at which the process itself is too large, whatever is counted."""

TRIM_S: Final = 1.0
"""Between two times that memory is given back under pressure."""

Holder = tuple[int, int, Limited]
"""What is held, a number (so that sessions need no order) and the session that holds it."""


class Holdings:
    """Counts, and cuts; made once in app."""

    def __init__(self, parts: Parts, spare_bytes: int, base_bytes: int, trim: Callable[[], None]) -> None:
        """Take note of how much there is.

        Args:
            spare_bytes: what this process may grow by.
            base_bytes: its size when idle.
            trim: gives memory back to the kernel.
        """
        self._parts = parts
        self._meter: Meter = parts.meter
        self._spare_bytes = spare_bytes
        self._base_bytes = base_bytes
        self._trim = trim
        self._trimmed_s = 0.0
        self.held_bytes = 0
        """At the last count."""
        self.look()

    def __repr__(self) -> str:
        return f"<Holdings {self.held_bytes} of {self.limit_bytes} bytes>"

    @property
    def limit_bytes(self) -> int:
        """What sessions may hold together now: the more there are, the less."""
        return max(FLOOR_BYTES, self._room_bytes)

    @property
    def _room_bytes(self) -> int:
        return (self._spare_bytes - SESSION_BYTES * len(self._parts.sessions)) // 2

    def look(self) -> None:
        """Count what is held; cut if it is too much."""
        parts = self._parts
        held_bytes = 0
        for session in parts.sessions:
            held_bytes += session.held_bytes
        limit_bytes = self.limit_bytes
        if held_bytes > limit_bytes:
            held_bytes -= self._cut(held_bytes - limit_bytes + limit_bytes // FREE_RATIO)
        self.held_bytes = held_bytes
        sessions_bytes = SESSION_BYTES * len(parts.sessions)
        parts.is_crowded = self._room_bytes < FLOOR_BYTES < sessions_bytes  # a small container is not full of itself
        parts.pump.look_after(max(FLOOR_BYTES // 8, (limit_bytes - held_bytes) // 2))

    def watch(self, resident_bytes: int, now_s: float) -> None:
        """Look at the size of the process itself (called by the sweep)."""
        if resident_bytes < self._base_bytes + self._spare_bytes * NEAR_RATIO:
            return
        if now_s - self._trimmed_s > TRIM_S:
            self._trimmed_s = now_s
            self._trim()
        elif self.held_bytes > FLOOR_BYTES:
            self.held_bytes -= self._cut(self.held_bytes // 2)

    def _cut(self, need_bytes: int) -> int:
        """Cut sessions until so much is free; tell how much it was."""
        by_source: dict[str, list[Holder]] = {}
        totals: dict[str, int] = {}
        number = 0
        for session in self._parts.sessions:
            held_bytes = session.held_bytes
            if held_bytes >= SMALL_BYTES:
                source = session.source
                number += 1
                by_source.setdefault(source, []).append((held_bytes, number, session))
                totals[source] = totals.get(source, 0) + held_bytes
        for holders in by_source.values():
            holders.sort()
        largest = [(-total, source) for source, total in totals.items()]
        heapq.heapify(largest)
        freed_bytes = 0
        while largest and freed_bytes < need_bytes:
            negative, source = heapq.heappop(largest)
            holders = by_source[source]
            freed = _end(holders.pop(), need_bytes - freed_bytes)
            freed_bytes += freed
            self._meter.count("memory_shed_total", (("direction", source.partition(" ")[0]),))
            if holders:
                heapq.heappush(largest, (negative + freed, source))
        return freed_bytes


def _end(holder: Holder, need_bytes: int) -> int:
    """End a session, or of HTTP/2 as many requests as it takes; tell how much is free by that."""
    held_bytes, _, session = holder
    if isinstance(session, Multiplex):
        return session.shed(need_bytes)
    session.abort("memory-shed")
    return held_bytes
