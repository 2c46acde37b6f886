"""What a policy does to one exchange: limits before it, more tries beside and after the first, an end in time. Turn.

An exchange whose decision asks for nothing of this has no course. The order of things: the rate limit (inbound); the
service's concurrency gate; then the first try, with the mirror and the hedge's timer beside it (see tries). A fault is
met by a try (see mishap).

Whose the time was that is up decides what it means. A policy's own speaks against the server. The caller's ends the
caller's exchange and no more: it says nothing of the server, and counts like a client that went away.

Deadlines cost no timer while they are far away: the sweep, which looks at every exchange a few times a second, arms
one when it is near.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from contract.metrics import INBOUND
from proxy.attempt import Attempt
from proxy.gate import Gate, Waiter
from proxy.model import KUBELET, Headers
from proxy.policy import deadline
from proxy.policy.decide import Decision
from proxy.policy.fault import Injection, Pacer
from proxy.pool import Endpoint
from proxy.seams import Timer
from proxy.shadow import Shadow, cast_shadow
from proxy.tap import Tap
from proxy.traffic import Place, Traffic
from proxy.tries import NEAR_S, Tries

if TYPE_CHECKING:
    from proxy.exchange import Exchange

GRACE_S: Final = 0.1
"""Before its own application a sidecar waits for so much longer: the client's sidecar ends the exchange, tells why and
counts it; only where that does not come (another mesh, a lost packet) is it ended here."""

_REASONS: Final = {"request": "request-timeout", "response": "response-timeout", "caller": "caller-timeout"}
"""Kind of a deadline -> reason word."""


class Course(Waiter):
    """Made by an exchange, told by it, ended with it."""

    __deletable__ = ("tries",)
    __slots__ = (
        "_exchange",
        "_grace_s",
        "_is_inside",
        "_timers",
        "_waiting_at",
        "deadline_s",
        "decision",
        "expires_as",
        "shadow",
        "traffic",
        "tries",
    )

    def __init__(self, exchange: "Exchange", traffic: Traffic) -> None:
        peer_ip = exchange.caller.peer_ip if traffic.needs_peer else ""
        self.decision: Decision[Endpoint] = traffic.decide(exchange.head, peer_ip)
        self.traffic = traffic
        self.tries = Tries(self, exchange)
        self._exchange = exchange
        self._timers: list[Timer] = []
        self._grace_s = GRACE_S if exchange.caller.direction == INBOUND else 0.0
        self.deadline_s = 0.0
        self.expires_as = ""
        """The kind of the nearest deadline: request, response (the policy's), or caller; empty: there is none."""
        self._is_inside = False
        self._waiting_at: Gate | None = None
        self.shadow: Shadow | None = None

    # before the first try

    def begin(self) -> None:
        """Set the deadlines; then go to the limits."""
        exchange = self._exchange
        if exchange.patience_s == deadline.EXPIRED:
            self._count_timeout("caller")
            exchange.fail("caller-timeout", "its time was over before it came here")
            return
        if self.decision.request_timeout_s > 0.0:
            self._expire_at(exchange.started_s + self.decision.request_timeout_s, "request")
        if exchange.patience_s > 0.0:
            self._expire_at(exchange.started_s + exchange.patience_s, "caller")
        if exchange.is_request_done:
            self._on_request_done()
        self._limit()

    def _limit(self) -> None:
        """Let the request in, let it wait, or shed it."""
        exchange = self._exchange
        traffic = self.traffic
        if exchange.caller.direction == INBOUND and not self._is_within_rate():
            return
        gate = traffic.gate
        if gate is None or gate.is_open():
            self._enter()
        else:
            self.wait_at(gate)

    def _is_within_rate(self) -> bool:
        """Let the request pass the rate limit, or refuse it; the kubelet's probes pass."""
        exchange = self._exchange
        traffic = self.traffic
        if exchange.peer == KUBELET:
            return True
        client = ip = exchange.caller.peer_ip
        peers = exchange.parts.peers
        if peers is not None and traffic.limits_clients:
            client = peers.identify(ip)
        refused = traffic.rate_limit(client, ip)
        if refused is None:
            return True
        self.count("inbound_http_local_ratelimit_total", ("by", refused.by))
        detail = f"the rate of the {refused.by}, for {exchange.caller.target}"
        exchange.fail("rate-limited", detail, 429, retry_after_s=refused.retry_after_s)
        return False

    def wait_at(self, gate: Gate) -> None:
        if gate.queue(self):
            self._waiting_at = gate
        else:
            self._shed("queue-full")

    def _shed(self, why: str) -> None:
        self.count("outbound_shed_total", ("reason", why))
        self._exchange.fail("overloaded", f"{why}, for {self._exchange.caller.target}")

    def on_queue_timeout(self) -> None:
        self._waiting_at = None
        self._shed("queue-timeout")

    def on_admitted(self) -> None:
        self._waiting_at = None
        if self._is_inside:
            self.tries.start()
        else:
            self._enter()

    def _enter(self) -> None:
        exchange = self._exchange
        decision = self.decision
        self._is_inside = True
        self.traffic.enter()
        if decision.mirror is not None:
            self.shadow = cast_shadow(exchange, decision.mirror)
        answer = self.shadow.original if self.shadow is not None else None
        peeks = decision.retries is not None and exchange.head.is_grpc and bool(decision.retries.grpc_statuses)
        if answer is not None or peeks:
            exchange.tap = Tap(exchange, answer)
        self.tries.start()

    def narrow(self, injected: Injection) -> None:
        """The client's response comes from a try that met this fault: do what it does to bodies."""
        exchange = self._exchange
        pacer: Pacer | None = None
        if injected.bandwidth_bytes_per_s > 0:
            pacer = Pacer(injected.bandwidth_bytes_per_s, exchange.parts.pump.now_s)
            self.count("outbound_faults_total", ("kind", "bandwidth"))
        if injected.truncate_bytes >= 0:
            self.count("outbound_faults_total", ("kind", "truncate"))
        if pacer is None and injected.truncate_bytes < 0:
            return
        if exchange.tap is None:
            exchange.tap = Tap(exchange, None)
        exchange.tap.narrow(injected.truncate_bytes, pacer)

    # the request's body

    @property
    def replay_bytes(self) -> int:
        """How much of the body is kept for another try."""
        retries = self.decision.retries
        return retries.body_bytes if retries is not None else self._exchange.parts.config.replay_bytes

    def send_body(self, data: bytes) -> None:
        """A piece has come: others than the exchange's own try want it too."""
        for rival in self.tries.rivals:
            if rival.leg is not None:
                rival.leg.write_body(data)
        if self.shadow is not None:
            self.shadow.send_body(data)

    def end_request(self, trailers: Headers) -> None:
        for rival in self.tries.rivals:
            if rival.leg is not None:
                rival.leg.end_request(trailers)
        if self.shadow is not None:
            self.shadow.end_request(trailers)
        self._on_request_done()

    def _on_request_done(self) -> None:
        if self.decision.response_s > 0:
            self._expire_at(self._exchange.parts.pump.now_s + self.decision.response_s, "response")

    def overlook(self, attempt: Attempt, is_beaten: bool) -> None:
        """A try has ended without a result: another try was faster, or its caller waits no longer."""
        waited_s = self._exchange.parts.pump.now_s - attempt.started_s if is_beaten else -1.0
        self.traffic.overlook(attempt.endpoint, waited_s)

    def observe(self, attempt: Attempt, is_sound: bool) -> None:
        """A try has told something about its endpoint."""
        self.traffic.observe(attempt.endpoint, is_sound, attempt.latency_s)

    # time

    def _expire_at(self, when_s: float, kind: str) -> None:
        """The nearest deadline counts."""
        if not self.expires_as or when_s < self.deadline_s:
            self.deadline_s = when_s
            self.expires_as = kind
            self.check(self._exchange.parts.pump.now_s)

    def check(self, now_s: float) -> None:
        """Arm what ends soon."""
        self.tries.check(now_s)
        if self.expires_as and self.deadline_s + self._grace_s - now_s < NEAR_S:
            self.after(self.deadline_s + self._grace_s - now_s, self._on_deadline)

    def _on_deadline(self) -> None:
        exchange = self._exchange
        if not exchange.is_over and exchange.parts.pump.now_s >= self.deadline_s + self._grace_s:
            self._count_timeout(self.expires_as)
            exchange.expire(_REASONS[self.expires_as])

    def _count_timeout(self, kind: str) -> None:
        self.count("timeouts_total", ("direction", self._exchange.caller.direction), ("kind", kind))

    def after(self, delay_s: float, callback: Callable[[], None]) -> None:
        pump = self._exchange.parts.pump
        self._timers.append(pump.call_at(pump.now_s + delay_s, callback))

    # the end

    def end(self, is_whole: bool) -> None:
        """The exchange is over; `is_whole`: the client has got a whole response of a server."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        if self._waiting_at is not None:
            self._waiting_at.leave_queue(self)
            self._waiting_at = None
        self.tries.cancel_rivals(is_beaten=False)
        if self._is_inside:
            self._is_inside = False
            self.traffic.leave()
        if self.shadow is not None:
            self.shadow.on_original_over(is_whole)
            self.shadow = None
        del self.tries  # it holds this course: neither shall wait for the garbage collector

    def hand_over(self) -> Place:
        """The request becomes a tunnel, which keeps its place."""
        self._is_inside = False
        return Place(self.traffic)

    def on_attempt_over(self) -> None:
        """An endpoint has one request less."""
        if self.traffic.room is not None:
            self.traffic.room.wake()

    def count(self, name: str, *labels: tuple[str, str]) -> None:
        self._exchange.parts.meter.count(name, (*labels, ("service", self.traffic.name)))
