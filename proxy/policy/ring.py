"""Consistent hashing: the same key, the same endpoint, also when endpoints come and go. Pure.

Theory of operation: keys fall into a fixed number of slots, and each slot belongs to the endpoint that scores highest
for it (rendezvous hashing): a score is a hash of slot and address, so it depends on nobody else. When an endpoint goes,
its own slots move and no others; when one comes, it takes about 1/n of the slots, evenly from all. Weights bend the
scores (-weight / ln u) such that each endpoint wins its exact share. All sidecars agree, because nothing but addresses
and weights goes in. A slot's owner is found when the slot is first used (one look at each endpoint) and remembered for
the life of the snapshot; so a pick costs one look-up, and a new snapshot costs nothing at once.

An owner that may not be drawn gives way to the next best for that slot, for as long as that lasts. In slow start an
endpoint gets those of its slots whose own threshold its warmth has passed: each key moves to it once.

Sources: D. Thaler and C. Ravishankar, "Using name-based mappings to increase hit rates" (1998); J. Resch, "New Hashing
Algorithms for Data Storage" (2015) for the weights; the mixing function is a multiply-and-shift finisher.
"""

from array import array
from collections.abc import Callable, Sequence
from hashlib import blake2b
from math import log
from typing import Final, Generic

from proxy.policy.load import E, Sieve, warmth

SLOTS_COUNT: Final = 32768
"""With ten endpoints, shares are even within about 2 %; the table of owners takes 64 KiB."""

NO_OWNER: Final = 65535
"""Also the bound on endpoints; a Kubernetes service has fewer."""

RANDOM_KEY: Final = -1
"""The request has nothing to hash: any slot will do."""

_BITS: Final = 0x7FFFFFFF


def key_of(value: bytes) -> int:
    """Hash what a request is known by; an empty value has no key."""
    return int.from_bytes(blake2b(value, digest_size=4).digest(), "big") & _BITS if value else RANDOM_KEY


def _mix(number: int) -> int:
    """Scatter 31 bits over 31 bits; all products stay below 2^62, so that they are machine integers when compiled."""
    number = ((number ^ (number >> 16)) * 0x45D9F3B) & _BITS
    number = ((number ^ (number >> 15)) * 0x2C1B3C6D) & _BITS
    return number ^ (number >> 16)


class Ring(Generic[E]):
    """Draws from a fixed sequence of endpoints; keeps a reference to it."""

    __slots__ = ("_endpoints", "_is_even", "_owners", "_seeds", "_slow_start_s")

    def __init__(self, endpoints: Sequence[E], slow_start_s: float) -> None:
        self._endpoints = endpoints
        self._slow_start_s = slow_start_s
        self._seeds = [key_of(endpoint.name.encode()) for endpoint in endpoints]
        self._is_even = len({endpoint.weight for endpoint in endpoints}) == 1
        self._owners = array("H", [NO_OWNER]) * SLOTS_COUNT

    def draw(self, sieve: Sieve[E], key: int, random: Callable[[], float]) -> E | None:
        """Give the endpoint that the key belongs to, or the next best for it that passes."""
        slot = int(random() * SLOTS_COUNT) if key < 0 else key % SLOTS_COUNT
        number = self._owners[slot]
        if number == NO_OWNER:
            number = self._owner(slot)
            self._owners[slot] = number
        owner = self._endpoints[number]
        if sieve.passes(owner) and (self._slow_start_s <= 0.0 or self._is_awake(number, slot, sieve.now_s)):
            return owner
        return self._next_best(slot, sieve)

    def _owner(self, slot: int) -> int:
        best, best_score = 0, -1.0
        place = _mix(slot + 1)
        for number in range(len(self._seeds)):
            score = self._score(number, place)
            if score > best_score:
                best, best_score = number, score
        return best

    def _next_best(self, slot: int, sieve: Sieve[E]) -> E | None:
        """Prefer those that are warm enough for the slot; the coldest serve when there are no others."""
        best: E | None = None
        best_score, is_best_awake = -1.0, False
        place = _mix(slot + 1)
        for number, endpoint in enumerate(self._endpoints):
            if sieve.passes(endpoint):
                score = self._score(number, place)
                is_awake = self._slow_start_s <= 0.0 or self._is_awake(number, slot, sieve.now_s)
                if (is_awake and not is_best_awake) or (score > best_score and is_awake == is_best_awake):
                    best, best_score, is_best_awake = endpoint, score, is_awake
        return best

    def _score(self, number: int, place: int) -> float:
        mixed = _mix(self._seeds[number] ^ place)
        if self._is_even:
            return float(mixed)
        return -self._endpoints[number].weight / log((mixed + 0.5) / (_BITS + 1.0))

    def _is_awake(self, number: int, slot: int, now_s: float) -> bool:
        warm = warmth(self._endpoints[number], self._slow_start_s, now_s)
        return warm >= 1.0 or _mix(_mix(slot + 1) ^ self._seeds[number] ^ 0x2545F491) < warm * _BITS
