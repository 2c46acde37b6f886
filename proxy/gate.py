"""A concurrency limit with a bounded queue before it. Turn.

At most `limit_count` are inside; then `queue_count` wait, each for at most `queue_timeout_s`; who finds the queue full
is shed at once, because an answer now is worth more than a place in a queue that is not served in time.
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol

from contract.policy import Concurrency
from proxy.seams import Clock, Timer


class Waiter(Protocol):
    """Who wants to get in: exactly one of the two is called, unless it has left the queue itself."""

    __slots__ = ()

    def on_admitted(self) -> None: ...
    def on_queue_timeout(self) -> None: ...


class Gate:
    """One limit. `has_room` says whether another may come in now; who comes in and goes out tells it."""

    __slots__ = ("_clock", "_has_room", "_timeout_s", "_waiting", "queue_count")

    def __init__(self, limits: Concurrency, queue_count: int, clock: Clock, has_room: Callable[[], bool]) -> None:
        self.queue_count = queue_count
        self._timeout_s = limits.queue_timeout_s
        self._clock = clock
        self._has_room = has_room
        self._waiting: dict[Waiter, Timer] = {}

    @property
    def waiting_count(self) -> int:
        return len(self._waiting)

    def is_open(self) -> bool:
        """Whether one may come in without waiting: who waits already comes first."""
        return not self._waiting and self._has_room()

    def queue(self, waiter: Waiter) -> bool:
        """Wait for room; tell whether there was a place in the queue."""
        if len(self._waiting) >= self.queue_count:
            return False
        when_s = self._clock.now_s + self._timeout_s
        self._waiting[waiter] = self._clock.call_at(when_s, partial(self._on_timeout, waiter))
        return True

    def leave_queue(self, waiter: Waiter) -> None:
        timer = self._waiting.pop(waiter, None)
        if timer is not None:
            timer.cancel()

    def wake(self) -> None:
        """Somebody has gone out: let the longest waiting come in."""
        while self._waiting and self._has_room():
            waiter = next(iter(self._waiting))
            self._waiting.pop(waiter).cancel()
            waiter.on_admitted()

    def open_wide(self) -> None:
        """Let in all who wait."""
        waiting, self._waiting = self._waiting, {}
        for waiter, timer in waiting.items():
            timer.cancel()
            waiter.on_admitted()

    def _on_timeout(self, waiter: Waiter) -> None:
        if self._waiting.pop(waiter, None) is not None:
            waiter.on_queue_timeout()
