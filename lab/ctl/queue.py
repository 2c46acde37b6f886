"""The work queue between watches and controllers: which objects to look at, each once, by one worker at a time. Waits.

A key that is added while it waits is in once; one that is added while it is worked on comes again afterwards, so no
change is missed and no object is worked on twice at a time. Its length is bounded by the number of objects.
Source: the idea of client-go's `workqueue`.
"""

import asyncio
from collections import deque
from dataclasses import dataclass

FIRST_RETRY_S = 0.05
"""A conflict with another writer is over by then."""
LONGEST_RETRY_S = 10.0
"""What still fails after nine tries waits for somebody to change something."""


@dataclass(frozen=True, slots=True)
class Key:
    """The object to look at; namespace is empty for cluster-wide kinds."""

    kind: str
    namespace: str
    name: str


def retry_delay_s(failures_count: int) -> float:
    """Seconds to wait after that many failures in a row (1 or more): doubling."""
    return min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(failures_count - 1, 30))


class Queue:
    """Keys that wait for a worker. All methods but `take` are plain calls of the same event loop."""

    def __init__(self) -> None:
        self._waiting: deque[Key] = deque()
        self._known: set[Key] = set()
        """Waiting, or to come again after the worker is done with it."""
        self._busy: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._later: dict[Key, asyncio.TimerHandle] = {}
        self._arrival = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def __repr__(self) -> str:
        return f"<Queue waiting={len(self._waiting)} busy={len(self._busy)} later={len(self._later)}>"

    def add(self, key: Key) -> None:
        """Have this object looked at as soon as a worker is free."""
        if key in self._known:
            return
        self._known.add(key)
        if key not in self._busy:
            self._waiting.append(key)
            self._arrival.set()

    def add_after(self, key: Key, delay_s: float) -> None:
        """Have it looked at in `delay_s` seconds; of several such wishes the earliest counts."""
        loop = asyncio.get_running_loop()
        held = self._later.get(key)
        if held is not None:
            if held.when() <= loop.time() + delay_s:
                return
            held.cancel()
        self._later[key] = loop.call_later(delay_s, self._due, key)

    def _due(self, key: Key) -> None:
        self._later.pop(key, None)
        self.add(key)

    def retry(self, key: Key) -> None:
        """Have it looked at again after a failure, later each time."""
        self._failures[key] = self._failures.get(key, 0) + 1
        self.add_after(key, retry_delay_s(self._failures[key]))

    def forget(self, key: Key) -> None:
        """A success: the next failure is a first one again."""
        self._failures.pop(key, None)

    async def take(self) -> Key:
        """Wait for a key; whoever takes it must call `done`."""
        while not self._waiting:
            self._arrival.clear()
            await self._arrival.wait()
        key = self._waiting.popleft()
        self._known.discard(key)
        self._busy.add(key)
        return key

    def done(self, key: Key) -> None:
        """The worker has let go of the key."""
        self._busy.discard(key)
        if key in self._known:
            self._waiting.append(key)
            self._arrival.set()

    def close(self) -> None:
        """Forget all timers."""
        for timer in self._later.values():
            timer.cancel()
        self._later.clear()
