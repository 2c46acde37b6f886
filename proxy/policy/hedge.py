"""When a second request is sent beside a slow first one. Pure.

Theory of operation: a request of an idempotent method that has had no answer for a while is sent to another endpoint
too, and the first answer wins. The while is a fixed delay, or a percentile of the service's latest latencies: hedging
after the 95th costs about five requests in a hundred, and takes the slow ones' edge. The budget that retries live by
holds here too, so a service that is slow as a whole is not asked twice for everything.

Latencies are kept in a sketch of fixed size: counts by a geometric scale (each bucket 10 % wider than the one before),
one set for the current window, one for the last. A percentile is read from both and kept for some answers, so that
asking for it costs nothing.

Sources: J. Dean and L. Barroso, "The Tail at Scale" (2013); RFC 9110 section 9.2.2 (idempotent methods).
"""

from math import log
from typing import Final, Literal

from contract.policy import Hedging
from proxy.policy.budget import Account

IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))

NEVER: Final = -1.0
"""Not a delay: there is nothing to hedge by."""

Refusal = Literal["", "method", "limit", "body", "budget"]
"""Why there is no hedge; empty: there is one, and it is paid for."""

SCALE_MIN_S: Final = 1e-4
SCALE_COUNT: Final = 150
"""Buckets: from 0.1 ms up to 160 s."""
SCALE_LOG: Final = log(1.1)

WINDOW_S: Final = 10.0
"""Latencies count for ten to twenty seconds."""

SAMPLES_MIN_COUNT: Final = 20
"""Fewer latencies say nothing about a percentile."""

KEPT_COUNT: Final = 32
"""Answers for which a percentile stays as it was."""


class Sketch:
    """The latencies of one target; asked for one percentile, its policy's."""

    __slots__ = ("_before", "_before_count", "_count", "_counts", "_kept_at_count", "_kept_s", "_turn_s", "percentile")

    def __init__(self, percentile: float) -> None:
        self.percentile = percentile
        self._counts = [0] * SCALE_COUNT
        self._count = 0
        self._before = [0] * SCALE_COUNT
        self._before_count = 0
        self._turn_s = 0.0
        """When the current window ends."""
        self._kept_s = NEVER
        self._kept_at_count = 0
        """Of latencies in the current window, when the kept percentile must be read again."""

    def __repr__(self) -> str:
        return f"<Sketch p{self.percentile:g} of {self._count + self._before_count}>"

    def record(self, latency_s: float, now_s: float) -> None:
        """Enter an answer's latency, from the start of its try to its head.

        Enter a try that was cancelled because its hedge was faster too, with the time that it had taken by then: if
        only winners counted, hedging would shorten its own delay.
        """
        if now_s >= self._turn_s:
            self._turn(now_s)
        bucket = 0
        if latency_s > SCALE_MIN_S:
            bucket = min(int(log(latency_s / SCALE_MIN_S) / SCALE_LOG) + 1, SCALE_COUNT - 1)
        self._counts[bucket] += 1
        self._count += 1

    def value_s(self, now_s: float) -> float:
        """Read the percentile, at most 10 % too high; NEVER when there are too few latencies."""
        if now_s >= self._turn_s:
            self._turn(now_s)
        if self._count >= self._kept_at_count:
            self._kept_at_count = self._count + KEPT_COUNT
            self._kept_s = self._read_s()
        return self._kept_s

    def _turn(self, now_s: float) -> None:
        is_long_ago = now_s >= self._turn_s + WINDOW_S
        self._before = [0] * SCALE_COUNT if is_long_ago else self._counts
        self._before_count = 0 if is_long_ago else self._count
        self._counts = [0] * SCALE_COUNT
        self._count = 0
        self._turn_s = now_s + WINDOW_S
        self._kept_at_count = 0

    def _read_s(self) -> float:
        count = self._count + self._before_count
        if count < SAMPLES_MIN_COUNT:
            self._kept_at_count = self._count + 1  # soon there may be enough
            return NEVER
        rank = count * self.percentile / 100.0
        seen = bucket = 0
        while bucket < SCALE_COUNT - 1:
            seen += self._counts[bucket] + self._before[bucket]
            if seen >= rank:
                break
            bucket += 1
        return float(SCALE_MIN_S * 1.1**bucket)


def after_s(hedging: Hedging, sketch: Sketch | None, now_s: float) -> float:
    """Give the delay after which a request is hedged, or NEVER while no percentile is known and no delay is set."""
    if hedging.percentile <= 0.0 or sketch is None:
        return hedging.delay_s
    known_s = sketch.value_s(now_s)
    if known_s < 0.0:
        return hedging.delay_s if hedging.delay_s > 0.0 else NEVER
    return max(known_s, hedging.delay_s)


def judge(hedging: Hedging, method: bytes, hedges_count: int, is_held: bool, account: Account, now_s: float) -> Refusal:
    """Decide on a hedge that is due; when the answer is empty, it has been withdrawn from the account.

    Args:
        hedging: the policy.
        method: as on the wire.
        hedges_count: made so far for this request.
        is_held: whether its body, as far as it has come, can be sent again.
        account: the service's, shared with its retries.
        now_s: monotonic.
    """
    if method not in IDEMPOTENT:
        return "method"
    if hedges_count >= hedging.limit_count:
        return "limit"
    if not is_held:
        return "body"
    if not account.withdraw(now_s):
        return "budget"
    return ""
