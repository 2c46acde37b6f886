"""Round robin, weighted. Pure.

Theory of operation: each endpoint has a next turn in a virtual time; the earliest turn is taken, and the endpoint's
next one stands 1 / weight later (in slow start 1 / (weight x warmth)). With equal weights that is round robin, with
others each gets its exact share, spread evenly. An endpoint that may not be drawn misses its turn, which goes to the
next in line, so the shares of the others stay as they were among themselves. First turns are drawn at random, so that
many sidecars do not start with the same endpoint.

Sources: earliest deadline first scheduling, as Envoy does for its weighted round robin; C. Waldspurger, "Stride
Scheduling" (1995).
"""

from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush, heapreplace
from typing import Generic

from proxy.policy.load import E, Sieve, warmth


class Rota(Generic[E]):
    """Draws from a fixed sequence of endpoints; keeps a reference to it."""

    __slots__ = ("_endpoints", "_slow_start_s", "_turns")

    def __init__(self, endpoints: Sequence[E], slow_start_s: float, random: Callable[[], float]) -> None:
        self._endpoints = endpoints
        self._slow_start_s = slow_start_s
        self._turns = [(random() / endpoint.weight, number) for number, endpoint in enumerate(endpoints)]
        """A heap of (virtual time, number of the endpoint)."""
        heapify(self._turns)

    def draw(self, sieve: Sieve[E], key: int, random: Callable[[], float]) -> E | None:
        """Take the next turn of an endpoint that passes; `key` and `random` mean nothing here."""
        turns = self._turns
        time, number = turns[0]
        endpoint = self._endpoints[number]
        if sieve.passes(endpoint):
            heapreplace(turns, (time + self._stride(endpoint, sieve.now_s), number))
            return endpoint
        return self._draw_passing(sieve)

    def _stride(self, endpoint: E, now_s: float) -> float:
        if self._slow_start_s <= 0.0:
            return 1.0 / endpoint.weight
        return 1.0 / (endpoint.weight * warmth(endpoint, self._slow_start_s, now_s))

    def _draw_passing(self, sieve: Sieve[E]) -> E | None:
        turns = self._turns
        missed: list[tuple[float, int]] = []
        while turns:
            time, number = heappop(turns)
            endpoint = self._endpoints[number]
            if sieve.passes(endpoint):
                heappush(turns, (time + self._stride(endpoint, sieve.now_s), number))
                for _, other in missed:
                    heappush(turns, (time + self._stride(self._endpoints[other], sieve.now_s), other))
                return endpoint
            missed.append((time, number))
        turns.extend(missed)  # nobody passes, nobody has missed a turn; popped in order, so this is a heap
        return None
