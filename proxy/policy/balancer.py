"""Balancing by a policy: which algorithm, among which endpoints. Pure.

Theory of operation: a balancer is made with each snapshot of a target and keeps what its algorithm needs (choices,
rota or ring). A pick asks for the best grade of endpoint first and comes down only when none is found:

1. hinted for the client's zone, usable, not full, not tried before by this request;
2. the same, in any zone;  3. also tried before;  4. also full: the request waits in its queue;
5. of weight 0: it gets no share, but it is better than one that is known to fail;
6. all, usable or not ("panic"): when everything is left out, leaving out helps nobody.

So an endpoint that is barred or ejected is never picked while another is usable. An endpoint whose ejection has run
out is picked for one request (its trial), then kept off until that one's outcome is recorded. A cookie of affinity
goes before the algorithm as long as the endpoint that it names is usable.
"""

from collections.abc import Callable, Sequence
from typing import Final, Generic

from contract.policy import Balancing
from proxy.policy.affinity import mark
from proxy.policy.choices import Choices
from proxy.policy.load import ANY, FREE, FRESH, HEALTHY, ON_TRIAL, OTHER, TRIAL_S, USABLE, E, Sieve, is_usable
from proxy.policy.ring import RANDOM_KEY, Ring
from proxy.policy.rota import Rota


class Wish:
    """What a request has to say about its endpoint: where its key hashes to, and which one it had before."""

    __slots__ = ("affinity", "key")

    def __init__(self, key: int = RANDOM_KEY, affinity: bytes = b"") -> None:
        self.key = key
        """Of ring.key_of."""
        self.affinity = affinity
        """Value of the affinity cookie; empty when there is none."""


NO_WISH: Final = Wish()


class Group(Generic[E]):
    """Endpoints that are balanced among themselves, and the algorithm that does it."""

    __slots__ = ("_choices", "_ring", "_rota", "endpoints")

    def __init__(
        self, endpoints: Sequence[E], balancing: Balancing, slow_start_s: float, random: Callable[[], float]
    ) -> None:
        self.endpoints = endpoints
        self._choices: Choices[E] | None = None
        self._rota: Rota[E] | None = None
        self._ring: Ring[E] | None = None
        algorithm = balancing.algorithm
        if algorithm == "round-robin":
            self._rota = Rota(endpoints, slow_start_s, random)
        elif algorithm == "ring-hash":
            self._ring = Ring(endpoints, slow_start_s)
        else:
            self._choices = Choices(endpoints, algorithm == "least-request", slow_start_s)

    def draw(self, sieve: Sieve[E], grade: int, key: int, random: Callable[[], float]) -> E | None:
        """Choose an endpoint of the grade, if there is one."""
        sieve.grade = grade
        choices = self._choices
        if choices is not None:
            return choices.draw(sieve, key, random)
        rota = self._rota
        if rota is not None:
            return rota.draw(sieve, key, random)
        ring = self._ring
        return ring.draw(sieve, key, random) if ring is not None else None


class Balancer(Generic[E]):
    """Made for one snapshot's endpoints (at least one); see balance.balancer for when there is none."""

    __slots__ = ("_all", "_marks", "_preferred", "_reserve", "_sieve", "balancing", "endpoints")

    def __init__(
        self,
        endpoints: Sequence[E],
        balancing: Balancing,
        full_count: int,
        random: Callable[[], float],
        now_s: float,
    ) -> None:
        """`full_count`: requests in flight that make an endpoint full, 0 for no limit."""
        self.endpoints = endpoints
        self.balancing = balancing
        self._sieve: Sieve[E] = Sieve(full_count)
        slow_start_s = balancing.slow_start_s
        if max(endpoint.added_s for endpoint in endpoints) + slow_start_s <= now_s:
            slow_start_s = 0.0  # nobody is new
        weighty = [endpoint for endpoint in endpoints if endpoint.weight > 0]
        self._reserve: Sequence[E] = [endpoint for endpoint in endpoints if endpoint.weight <= 0]
        self._all: Group[E] | None = Group(weighty, balancing, slow_start_s, random) if weighty else None
        preferred = [endpoint for endpoint in weighty if endpoint.is_preferred] if balancing.prefers_zone else []
        self._preferred: Group[E] | None = None
        if preferred and len(preferred) < len(weighty):
            self._preferred = Group(preferred, balancing, slow_start_s, random)
        self._marks: dict[bytes, E] = {}
        if balancing.affinity.cookie:
            self._marks = {mark(endpoint.name): endpoint for endpoint in endpoints}

    def __repr__(self) -> str:
        return f"<Balancer {self.balancing.algorithm} of {len(self.endpoints)}>"

    def pick(self, wish: Wish, avoided: tuple[E, ...], random: Callable[[], float], now_s: float) -> E:
        """Choose an endpoint; `avoided` have failed this request before, or are serving it."""
        sieve = self._sieve
        sieve.now_s = now_s
        sieve.avoided = avoided
        picked = self._bound(wish.affinity, avoided, now_s) if wish.affinity else None
        if picked is None:
            picked = self._draw(sieve, wish.key, random)
        if picked.probation != HEALTHY and picked.ejected_until_s <= now_s:
            picked.probation = ON_TRIAL
            picked.ejected_until_s = now_s + TRIAL_S
        return picked

    def _bound(self, name: bytes, avoided: tuple[E, ...], now_s: float) -> E | None:
        endpoint = self._marks.get(name)
        if endpoint is None or endpoint in avoided or not is_usable(endpoint, now_s):
            return None
        return endpoint

    def _draw(self, sieve: Sieve[E], key: int, random: Callable[[], float]) -> E:
        preferred, group = self._preferred, self._all
        picked: E | None = None
        if preferred is not None:
            picked = preferred.draw(sieve, FRESH, key, random)
        if picked is None and group is not None:
            picked = group.draw(sieve, FRESH, key, random)
            if picked is None and sieve.avoided:
                picked = group.draw(sieve, FREE, key, random)
            if picked is None:
                picked = group.draw(sieve, USABLE, key, random)
        if picked is None:
            picked = self._draw_reserve(sieve, random)
        if picked is None and group is not None:
            if sieve.avoided:
                picked = group.draw(sieve, OTHER, key, random)
            if picked is None:
                picked = group.draw(sieve, ANY, key, random)
        if picked is not None:
            return picked
        return self.endpoints[int(random() * len(self.endpoints))]

    def _draw_reserve(self, sieve: Sieve[E], random: Callable[[], float]) -> E | None:
        usable = [endpoint for endpoint in self._reserve if is_usable(endpoint, sieve.now_s)]
        return usable[int(random() * len(usable))] if usable else None
