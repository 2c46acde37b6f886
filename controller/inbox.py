"""The way of changes from the watching threads to the event loop. The one object that both sides touch.

Threads put; the loop drains some milliseconds after the first, so that what belongs together (a pod and its slice)
is published together. A full inbox blocks the threads, which then read no further: the API server's connection is
the queue.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

COALESCE_S: Final = 0.003
"""From the first change to the drain: longer than two related events lie apart, far below the 20 ms that a stream
may lag behind."""

CAPACITY_COUNT: Final = 4096
TURN_COUNT: Final = 256
"""Items drained in one turn of the loop; the rest follows after others had theirs."""

T = TypeVar("T")


class Inbox(Generic[T]):
    """Bounded queue from threads to one callback on the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_batch: Callable[[list[T]], None]) -> None:
        """`on_batch` gets 1 to TURN_COUNT items in order, on the loop."""
        self._loop = loop
        self._on_batch = on_batch
        self._items: deque[T] = deque()
        self._lock = threading.Lock()
        self._room = threading.Semaphore(CAPACITY_COUNT)
        self._is_scheduled = False
        self._is_closed = False

    def put(self, item: T) -> None:
        """Hand over an item from any thread; waits while the inbox is full; dropped once closed."""
        while not self._room.acquire(timeout=0.5):
            if self._is_closed:
                return
        with self._lock:
            self._items.append(item)
            if self._is_scheduled or self._is_closed:
                return
            self._is_scheduled = True
        try:
            self._loop.call_soon_threadsafe(self._loop.call_later, COALESCE_S, self._drain)
        except RuntimeError:  # the loop has ended
            self._is_closed = True

    def close(self) -> None:
        self._is_closed = True

    def _drain(self) -> None:
        with self._lock:
            batch = [self._items.popleft() for _ in range(min(len(self._items), TURN_COUNT))]
            self._is_scheduled = bool(self._items)
        for _ in batch:
            self._room.release()
        if self._is_scheduled:
            self._loop.call_soon(self._drain)
        if batch and not self._is_closed:
            self._on_batch(batch)
