"""Two random choices, weighted. Pure.

Theory of operation: one endpoint is drawn by weight, another of the same weight beside it, and the less loaded of the
two is taken. Weights are the operator's word and hold exactly, whatever the latencies; load decides among those whom
the operator holds equal (with equal weights, the plain case, that is all of them). An endpoint in slow start is drawn
by that much less, as first and as second, so that its share grows with its warmth.

Nothing is filtered as long as what was drawn passes the sieve; only when it does not, the endpoints that pass are
listed and drawn from.

Sources: M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (2001); that weights stand above load,
in classes of equal weight, is an idea of Finagle's traffic distributor.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Final, Generic

from proxy.policy.load import E, Sieve, burden, warmth

REDRAWS_COUNT: Final = 64
"""A cold endpoint is kept once in ten times at least, so one draw in a thousand goes so far, while all are new."""


class Choices(Generic[E]):
    """Draws from a fixed sequence of endpoints; keeps a reference to it."""

    __slots__ = ("_endpoints", "_is_even", "_is_least", "_peers", "_places", "_slow_start_s", "_sums")

    def __init__(self, endpoints: Sequence[E], is_least: bool, slow_start_s: float) -> None:
        """`is_least`: load is the requests in flight alone; else it is peak EWMA x (in flight + 1)."""
        self._endpoints = endpoints
        self._is_least = is_least
        self._slow_start_s = slow_start_s
        self._sums: list[float] = []
        """Running sums of the weights."""
        self._peers: list[list[int]] = []
        """For each endpoint all those of its weight, itself among them at `_places`."""
        self._places: list[int] = []
        classes: dict[int, list[int]] = {}
        total = 0.0
        for number, endpoint in enumerate(endpoints):
            total += endpoint.weight
            self._sums.append(total)
            peers = classes.setdefault(endpoint.weight, [])
            self._places.append(len(peers))
            self._peers.append(peers)
            peers.append(number)
        self._is_even = len(classes) == 1

    def draw(self, sieve: Sieve[E], key: int, random: Callable[[], float]) -> E | None:
        """Choose an endpoint that passes; `key` means nothing here."""
        endpoints = self._endpoints
        first = self._draw_first(random, sieve.now_s)
        one = endpoints[first]
        peers = self._peers[first]
        count = len(peers)
        if count == 1:
            return one if sieve.passes(one) else self._draw_passing(sieve, random)
        second = int(random() * (count - 1))
        if second >= self._places[first]:
            second += 1
        other = endpoints[peers[second]]
        if not (sieve.passes(one) and sieve.passes(other)):
            return self._draw_passing(sieve, random)
        return self._better(one, other, random, sieve.now_s)

    def _draw_first(self, random: Callable[[], float], now_s: float) -> int:
        endpoints = self._endpoints
        count = len(endpoints)
        first = 0
        for _ in range(REDRAWS_COUNT):
            if self._is_even:
                first = int(random() * count)
            else:
                first = min(bisect_right(self._sums, random() * self._sums[-1]), count - 1)
            if self._slow_start_s <= 0.0 or random() < warmth(endpoints[first], self._slow_start_s, now_s):
                break
        return first

    def _better(self, one: E, other: E, random: Callable[[], float], now_s: float) -> E:
        slow_start_s = self._slow_start_s
        if slow_start_s > 0.0 and random() >= warmth(other, slow_start_s, now_s):
            return one
        if self._is_least:
            return one if one.in_flight <= other.in_flight else other
        return one if burden(one, now_s) <= burden(other, now_s) else other

    def _draw_passing(self, sieve: Sieve[E], random: Callable[[], float]) -> E | None:
        """The same among those that pass, listed."""
        now_s = sieve.now_s
        slow_start_s = self._slow_start_s
        passing: list[E] = []
        sums: list[float] = []
        total = 0.0
        for endpoint in self._endpoints:
            if sieve.passes(endpoint):
                total += endpoint.weight * (warmth(endpoint, slow_start_s, now_s) if slow_start_s > 0.0 else 1.0)
                passing.append(endpoint)
                sums.append(total)
        if len(passing) < 2:
            return passing[0] if passing else None
        one = passing[min(bisect_right(sums, random() * total), len(passing) - 1)]
        peers = [endpoint for endpoint in passing if endpoint.weight == one.weight and endpoint is not one]
        if not peers:
            return one
        return self._better(one, peers[int(random() * len(peers))], random, now_s)
