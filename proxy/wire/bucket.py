"""Token buckets, one for each kind of nuisance on one connection. Pure."""

from typing import Final


class Bucket:
    """Holds `burst_count` tokens at most; time fills it, and so does honest work (`earn`)."""

    __slots__ = ("_at_s", "_earned_count", "_tokens", "burst_count", "per_s")

    def __init__(self, burst_count: float, per_s: float, now_s: float) -> None:
        self.burst_count: Final = burst_count
        self.per_s: Final = per_s
        self._tokens = burst_count
        self._at_s = now_s
        self._earned_count = 0

    def __repr__(self) -> str:
        return f"<Bucket {self._tokens:g} of {self.burst_count:g}, {self.per_s:g}/s>"

    def take(self, now_s: float) -> bool:
        """Take a token; tell whether there was one."""
        if self._tokens < 1.0:
            self.earn((now_s - self._at_s) * self.per_s)  # fast: the clock is asked when the tokens are gone
            self._at_s = now_s
            if self._tokens < 1.0:
                return False
        self._tokens -= 1.0
        return True

    def earn(self, count: float) -> None:
        self._tokens = min(self.burst_count, self._tokens + count)

    def earn_to(self, total_count: int) -> None:
        """Earn what a count of honest work has grown by since the last call."""
        self.earn(total_count - self._earned_count)
        self._earned_count = total_count


class Buckets:
    """Those of one HTTP/2 connection; each holds a burst, and then so many a second."""

    __slots__ = ("empty", "errors", "pings", "resets", "settings", "updates")

    def __init__(self, now_s: float) -> None:
        self.resets = Bucket(1000, 33, now_s)
        self.errors = Bucket(1000, 33, now_s)
        self.settings = Bucket(100, 10, now_s)
        self.pings = Bucket(200, 100, now_s)
        self.empty = Bucket(200, 20, now_s)
        self.updates = Bucket(4000, 1000, now_s)
