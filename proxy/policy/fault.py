"""Injected failures: which request meets which, and the pace of a narrowed response. Pure.

A fault is matched by method, path and headers, then drawn by its ratio; the first one that is both happens, and no
other. What is prepared once for each snapshot: everything in bytes, ready to compare.

Sources: Gateway API's HTTPRouteMatch for what `Exact` and `PathPrefix` mean; RFC 9112 section 3.2 (the target's forms).
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from contract.policy import Fault

BURST_S: Final = 0.05
"""Bytes of so long a time (seconds) pass at once: a timer for each packet would cost more than it shows."""
PAUSE_MIN_S: Final = 0.001
"""A timer is not asked for less, so that rounding can never make it ring for nothing for ever."""


class Head(Protocol):
    """A request's head, as far as decisions care."""

    @property
    def method(self) -> bytes: ...
    @property
    def target(self) -> bytes: ...
    def value(self, name: bytes) -> bytes:
        """Find a header by its lower-case name; the first one's value, or nothing."""
        ...


class Injection:
    """One fault, made ready; also what happens when it is drawn."""

    __slots__ = (
        "abort_grpc_status",
        "abort_status",
        "bandwidth_bytes_per_s",
        "delay_s",
        "headers",
        "is_reset",
        "methods",
        "name",
        "path",
        "prefix",
        "ratio",
        "truncate_bytes",
    )

    def __init__(self, fault: Fault) -> None:
        match = fault.match
        self.methods = tuple(method.encode() for method in match.methods)
        self.path = match.path.encode()
        self.prefix = match.path_prefix.encode().rstrip(b"/")
        """Without its last slash; empty: all paths."""
        self.headers = tuple((name.encode(), value.encode()) for name, value in match.headers)
        self.ratio = fault.ratio
        self.delay_s = fault.delay_s
        self.abort_status = fault.abort_status
        self.abort_grpc_status = fault.abort_grpc_status
        self.is_reset = fault.is_reset
        self.truncate_bytes = fault.truncate_bytes
        self.bandwidth_bytes_per_s = fault.bandwidth_bytes_per_s
        self.name = fault.name

    def __repr__(self) -> str:
        return f"<Injection {self.name} {self.ratio:g}>"

    def misses(self, head: Head) -> str:
        """Tell by what a request does not match: `method`, `path`, `header`; empty when it does."""
        if self.methods and head.method not in self.methods:
            return "method"
        if self.path or self.prefix:
            path = path_of(head.target)
            if self.path and path != self.path:
                return "path"
            prefix = self.prefix
            if prefix and path != prefix and not path.startswith(prefix + b"/"):
                return "path"
        for name, value in self.headers:
            if head.value(name) != value:
                return "header"
        return ""


def draw(injections: Sequence[Injection], head: Head, random: Callable[[], float]) -> Injection | None:
    """Give the fault that the request meets, if any; `random` is asked for each that matches and need not happen."""
    for injection in injections:
        if not injection.misses(head) and (injection.ratio >= 1.0 or random() < injection.ratio):
            return injection
    return None


def path_of(target: bytes) -> bytes:
    """Give the path of a request's target, without the query."""
    if not target.startswith(b"/"):
        start = target.find(b"://")
        if start < 0:
            return target  # `*`, or the authority of CONNECT
        start = target.find(b"/", start + 3)
        target = target[start:] if start >= 0 else b"/"
    end = target.find(b"?")
    return target if end < 0 else target[:end]


class Pacer:
    """How many bytes of a narrowed response may pass: what has been earned by time, up to a burst."""

    __slots__ = ("_at_s", "_burst_bytes", "_earned_bytes", "_per_s")

    def __init__(self, bandwidth_bytes_per_s: float, now_s: float) -> None:
        self._per_s = bandwidth_bytes_per_s
        self._burst_bytes = max(1.0, bandwidth_bytes_per_s * BURST_S)
        self._earned_bytes = self._burst_bytes
        self._at_s = now_s

    def allowed_bytes(self, now_s: float) -> int:
        """How many bytes may pass now."""
        earned_bytes = self._earned_bytes + (now_s - self._at_s) * self._per_s
        self._earned_bytes = min(self._burst_bytes, earned_bytes)
        self._at_s = now_s
        return max(0, int(self._earned_bytes + 1e-6))

    def spend(self, count_bytes: int) -> None:
        """Enter bytes that have passed; more than were allowed are a debt."""
        self._earned_bytes -= count_bytes

    def next_s(self, now_s: float) -> float:
        """When a whole burst may pass again: the time to try next."""
        self.allowed_bytes(now_s)
        return now_s + max(PAUSE_MIN_S, (self._burst_bytes - self._earned_bytes) / self._per_s)
