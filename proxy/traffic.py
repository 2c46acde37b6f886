"""What a policy remembers of the traffic to one target: health, budget, latencies, who is inside. Turn.

Made with a snapshot that carries a policy, or whose endpoints are not all alike; updated with each later snapshot, so
that a change of endpoints forgets nothing. A target without a policy has none, and pays nothing.
"""

from collections.abc import Callable, Sequence
from typing import Final

from contract.policy import ServicePolicy
from proxy.gate import Gate
from proxy.meter import Meter
from proxy.model import RequestHead, ResponseHead
from proxy.policy import balance, hedge, outlier
from proxy.policy.affinity import mark, set_cookie
from proxy.policy.budget import Account
from proxy.policy.decide import Decision, View, decide
from proxy.policy.fault import Injection, draw
from proxy.policy.limit import Limiter, Refused
from proxy.pool import Endpoint
from proxy.seams import Clock

NO_POLICY: Final = ServicePolicy()


def needs_traffic(endpoints: Sequence[Endpoint]) -> bool:
    """Tell whether the endpoints alone, without a policy, ask for more than two random choices."""
    return any(endpoint.weight != 1 or endpoint.is_preferred for endpoint in endpoints)


class Traffic:
    """Shared by all exchanges of a target."""

    __slots__ = (
        "_affinity",
        "_breaker",
        "_clock",
        "_full_count",
        "_inside_count",
        "_limiter",
        "_meter",
        "_places_count",
        "_random",
        "_view",
        "account",
        "endpoints",
        "gate",
        "is_plain",
        "name",
        "needs_peer",
        "policy",
        "room",
        "sketch",
    )

    def __init__(
        self, policy: ServicePolicy, name: str, clock: Clock, meter: Meter, random: Callable[[], float]
    ) -> None:
        self.policy = policy
        self.name = name
        """Of the service, for metrics."""
        self.endpoints: Sequence[Endpoint] = ()
        self.is_plain = False
        """Whether a request that carries no marks needs nothing of this."""
        # What every request asks of the policy, read once (fast: a struct's field costs ten times a class's).
        self.needs_peer: bool = policy.balancing.hash.source_ip
        """Whether a decision depends on the client's address."""
        self._affinity = policy.balancing.affinity if policy.balancing.affinity.cookie else None
        self._breaker = policy.circuit_breaker
        self._places_count: int = policy.service_concurrency.limit_count
        self._full_count: int = policy.endpoint_concurrency.limit_count
        self.account = Account(policy.budget)
        self.gate: Gate | None = None
        if self._places_count:
            self.gate = Gate(policy.service_concurrency, policy.service_concurrency.queue_count, clock, self._has_place)
        self.room: Gate | None = None
        self.sketch: hedge.Sketch | None = None
        if policy.hedging is not None and policy.hedging.percentile > 0.0:
            self.sketch = hedge.Sketch(policy.hedging.percentile)
        self._limiter = Limiter(policy.rate_limit, clock.now_s) if policy.rate_limit is not None else None
        self._clock = clock
        self._meter = meter
        self._random = random
        self._inside_count = 0
        self._view: View[Endpoint] = View((), policy, None)

    def __repr__(self) -> str:
        return f"<Traffic to {self.name} policy={self.policy.name!r} inside={self._inside_count}>"

    def update(self, endpoints: Sequence[Endpoint]) -> None:
        """Take the endpoints of a snapshot."""
        policy = self.policy
        self.endpoints = endpoints
        self.is_plain = policy is NO_POLICY and not needs_traffic(endpoints)
        balancer = balance.balancer_of(endpoints, policy, self._random, self._clock.now_s)
        self._view = View(endpoints, policy, balancer)
        if self._breaker is None:
            for endpoint in endpoints:
                outlier.pardon(endpoint)
        limits = policy.endpoint_concurrency
        if limits.limit_count:
            if self.room is None:
                self.room = Gate(limits, 0, self._clock, self._has_room)
            self.room.queue_count = limits.queue_count * len(endpoints)
            self.room.wake()

    def close(self) -> None:
        """Another policy takes over: who waits comes in."""
        for gate in (self.gate, self.room):
            if gate is not None:
                gate.open_wide()

    def decide(self, head: RequestHead, peer_ip: str) -> Decision[Endpoint]:
        return decide(head, peer_ip, self._view, self._clock.now_s, self._random)

    def draw_fault(self, head: RequestHead) -> Injection | None:
        """What is done on purpose to the next try of a request."""
        injections = self._view.injections
        return draw(injections, head, self._random) if injections else None

    def pick(self, decision: Decision[Endpoint], avoided: tuple[Endpoint, ...]) -> Endpoint:
        """Choose an endpoint; it may be full (see `room`)."""
        balancer = self._view.balancer
        if balancer is None:
            return balance.pick(self.endpoints, self._random, self._clock.now_s)
        return balancer.pick(decision.wish, avoided, self._random, self._clock.now_s)

    def is_full(self, endpoint: Endpoint) -> bool:
        return 0 < self._full_count <= endpoint.in_flight

    @property
    def limits_clients(self) -> bool:
        """Whether each client has a rate of its own."""
        return self._limiter is not None and self._limiter.terms.client.per_s > 0.0

    def rate_limit(self, client: str, peer_ip: str) -> Refused | None:
        """Let a request of a client pass, or tell why not and until when."""
        limiter = self._limiter
        if limiter is None:
            return None
        now_s = self._clock.now_s
        if client != peer_ip:
            limiter.merge(peer_ip, client, now_s)
        return limiter.take(client, now_s)

    @property
    def limited_clients_count(self) -> int:
        """Clients whose rate is remembered."""
        return self._limiter.clients_count if self._limiter is not None else 0

    # who is inside

    @property
    def waiting_count(self) -> int:
        """Requests that wait to come in."""
        return sum(gate.waiting_count for gate in (self.gate, self.room) if gate is not None)

    def _has_place(self) -> bool:
        return self._inside_count < self._places_count

    def _has_room(self) -> bool:
        return any(not self.is_full(endpoint) for endpoint in self.endpoints)

    def enter(self) -> None:
        """A request has come in."""
        self._inside_count += 1
        self.account.deposit(self._clock.now_s)

    def leave(self) -> None:
        """A request has gone out, or the tunnel that it became."""
        self._inside_count -= 1
        if self.gate is not None:
            self.gate.wake()

    # what is learnt

    def observe(self, endpoint: Endpoint, is_sound: bool, latency_s: float) -> None:
        """A try has ended, with an answer or without."""
        breaker = self._breaker
        now_s = self._clock.now_s
        if self.sketch is not None and is_sound:
            self.sketch.record(latency_s, now_s)
        if breaker is not None:
            verdict = outlier.record(breaker, endpoint, is_sound, self.endpoints, now_s)
            if verdict == "recovered":
                self._meter.count("outbound_recoveries_total", (("service", self.name),))
            elif verdict == "capped":
                self._meter.count("outbound_ejections_capped_total", (("service", self.name),))
            elif verdict:
                self._meter.count("outbound_ejections_total", (("service", self.name), ("cause", verdict)))

    def overlook(self, endpoint: Endpoint, waited_s: float) -> None:
        """A try was given up, which says nothing of the endpoint's health.

        `waited_s`: where another try was faster, how long this one had taken by then; it would have taken at least
        that. Negative where its caller has given up: when is the caller's word, and says nothing of latencies.
        """
        if self.sketch is not None and waited_s >= 0.0:
            self.sketch.record(waited_s, self._clock.now_s)
        if self._breaker is not None:
            outlier.abandon(endpoint)

    def mark(self, decision: Decision[Endpoint], head: ResponseHead, endpoint: Endpoint) -> None:
        """Bind the client to the endpoint that answers, where the policy says so and it is not bound already."""
        affinity = self._affinity
        if affinity is not None:
            name = mark(endpoint.name)
            if decision.wish.affinity != name:
                head.add(b"set-cookie", set_cookie(affinity, name))


class Place:
    """A request's place under its policy's limits, handed to the tunnel that the request became."""

    __slots__ = ("_traffic",)

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic

    def leave(self) -> None:
        """The tunnel is over; its endpoint counts it no more."""
        self._traffic.leave()
        if self._traffic.room is not None:
            self._traffic.room.wake()
