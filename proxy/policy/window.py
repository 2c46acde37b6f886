"""Counts over the latest seconds. Pure.

A ring of buckets, each `window_s / 10` wide: an event is added to the bucket of its time, and buckets that time has
left behind are emptied when the window is next looked at. Ten buckets never reach back further than `window_s`, eleven
always do at least; which of the two errs on the safe side is the user's choice.
"""

from typing import Final

BUCKETS_COUNT: Final = 10
"""A tenth of the window is how coarse it may be (the same as Finagle's windowed adder)."""


class Window:
    """Changed by `add` and `clear`; `total` only lets time pass."""

    __slots__ = ("_counts", "_slot", "_total", "_width_s")

    def __init__(self, window_s: float, buckets_count: int = BUCKETS_COUNT) -> None:
        self._width_s = max(window_s, 1e-3) / BUCKETS_COUNT
        self._counts = [0] * buckets_count
        self._slot = 0
        """Number of the newest bucket, counted from time zero."""
        self._total = 0

    def add(self, now_s: float, count: int = 1) -> None:
        self._advance(now_s)
        self._counts[self._slot % len(self._counts)] += count
        self._total += count

    def total(self, now_s: float) -> int:
        """Count what was added in the window that ends now."""
        self._advance(now_s)
        return self._total

    def clear(self) -> None:
        self._counts = [0] * len(self._counts)
        self._total = 0

    def _advance(self, now_s: float) -> None:
        slot = int(now_s / self._width_s)
        passed = slot - self._slot
        if passed <= 0:
            return
        counts = self._counts
        size = len(counts)
        if self._total:
            for number in range(self._slot + 1, self._slot + 1 + min(passed, size)):
                self._total -= counts[number % size]
                counts[number % size] = 0
        self._slot = slot
