"""One request and its response: the conductor. Turn.

An exchange decides once, by the pure functions of policy/, then moves bytes between its caller and the leg of an
attempt; it knows no protocol (see seams). Request bytes are held (up to `replay_bytes`) until the response begins, so
that a request that met a dying kept-alive connection, or an endpoint that was not there, can go elsewhere without the
client's noticing.

Sources: RFC 9110 sections 9.2.2 (idempotent methods), 15.2 (1xx), 9.3.6 (CONNECT), 7.8 (Upgrade); RFC 9112 section
9.3.1 (retrying on a closed connection); RFC 9113 section 8.7 (requests that are safe to retry).
"""

from collections.abc import Sequence
from typing import Final

from contract.metrics import OUTBOUND
from proxy import blame, resend, trust
from proxy.attempt import Attempt
from proxy.course import Course
from proxy.errors import REASONS
from proxy.meter import HttpSeries
from proxy.model import APPLICATION, LENGTH, NO_BODY, STRANGER, Headers, PeerKind, RequestHead, ResponseHead
from proxy.policy import balance, route
from proxy.policy.deadline import NO_LIMIT
from proxy.policy.hedge import IDEMPOTENT
from proxy.pool import Endpoint
from proxy.seams import Caller, Leg
from proxy.tap import Tap
from proxy.wire import grpc, marks, upgrade
from proxy.wire.streams import CANCEL

_PIECE_BYTES: Final = 48
"""What a piece takes in memory beside its bytes: many tiny ones are as dear as few large ones."""


class Exchange:
    """Made for one request; over when `finish`, `fail` or `abort` has run."""

    __slots__ = (
        "_held",
        "_held_bytes",
        "_trailers",
        "attempt",
        "caller",
        "course",
        "endpoints",
        "has_retried",
        "head",
        "is_over",
        "is_request_done",
        "parts",
        "patience_s",
        "peer",
        "probes",
        "started_s",
        "status",
        "tap",
    )

    def __init__(self, caller: Caller, head: RequestHead) -> None:
        self.caller = caller
        self.head = head
        self.parts = parts = caller.parts
        self.started_s = parts.pump.now_s
        self.is_over = False
        self.is_request_done = head.framing == NO_BODY
        self.status = 0
        """Of the response that the client sees, once it has begun."""
        self.peer: PeerKind = APPLICATION if caller.direction == OUTBOUND else STRANGER
        """Who asks: what the session knows of it is read where something depends on it."""
        self.patience_s = NO_LIMIT
        """Seconds that the caller leaves for it; or deadline.EXPIRED."""
        self.probes: HttpSeries | None = None
        """The series that counts in place of the endpoint's."""
        self.endpoints: Sequence[Endpoint] = ()
        self.attempt: Attempt | None = None
        """The latest try; once the response has begun, the one that gives it."""
        self.course: Course | None = None
        """What a policy does beside it, if one does."""
        self.tap: Tap | None = None
        self._held: list[bytes] | None = None
        self._held_bytes = 0
        self._trailers: Headers = ()
        self.has_retried = False
        """Without being asked by a policy; once is enough."""

    # the request

    def on_request(self) -> None:  # stop 4
        """Conduct: route, decide, pick, take, send."""
        head = self.head
        target = self.caller.target
        if head.has_marks or target.probed:
            trust.hear_request(self)
        self.endpoints = endpoints = route.match(target.kind, target.known, target.direct)
        if not endpoints:
            self.fail("no-endpoints", f"service {target} has no ready endpoint")
            return
        if head.framing != NO_BODY:
            self._held = []
        traffic = target.traffic_for(self.patience_s != NO_LIMIT)
        if traffic is None:
            self.start(Attempt(self, self.pick(), 1))
        else:
            self.course = Course(self, traffic)
            self.course.begin()

    def pick(self) -> Endpoint:
        """Choose among the endpoints by what is known of them now."""
        own = self.caller.own
        if own is not None and own.can_serve(self.endpoints):
            return own.endpoint
        if self.course is not None:
            return self.course.tries.pick()
        return balance.pick(self.endpoints, self.parts.random, self.parts.pump.now_s)

    def start(self, attempt: Attempt) -> None:
        self.attempt = attempt
        attempt.take()

    def send(self, attempt: Attempt, leg: Leg) -> None:
        """Write the head and what has arrived of the body."""
        held = self._held
        head = self.head if self.course is None else self.course.tries.head_for(attempt)
        leg.begin(attempt, head, self.is_request_done and not held and not self._trailers)
        self.caller.couple(leg)
        if held:
            for data in held:
                leg.write_body(data)
            self.caller.release()
        if self.is_request_done and (held or self._trailers):
            leg.end_request(self._trailers)

    def send_body(self, data: bytes) -> None:
        course = self.course
        if course is not None:
            course.send_body(data)
        leg = self.attempt.leg if self.attempt is not None else None
        if self._held is not None and self._hold(data, leg is None):
            return
        if leg is not None:
            leg.write_body(data)

    def _hold(self, data: bytes, is_early: bool) -> bool:
        """Keep a piece of the body for another try; tell whether that is all that can be done with it yet."""
        held = self._held
        if held is None:
            return False
        held.append(data)
        self._held_bytes += len(data) + _PIECE_BYTES
        if is_early:
            if self._held_bytes > self.parts.config.buffer_low_bytes:
                self.caller.hold()
            return True
        limit_bytes = self.parts.config.replay_bytes if self.course is None else self.course.replay_bytes
        if self._held_bytes > limit_bytes:
            self._held = None
        return False

    def end_request(self, trailers: Headers = ()) -> None:
        if self.is_request_done:
            return
        if trailers:
            trailers = marks.without(trailers)  # nobody's sidecar says anything there
        self.is_request_done = True
        self._trailers = trailers
        if self.course is not None:
            self.course.end_request(trailers)
        attempt = self.attempt
        if attempt is not None and attempt.leg is not None:
            attempt.leg.end_request(trailers)

    @property
    def is_resendable(self) -> bool:
        """Whether the request may be sent again if a kept-alive connection ends under it, and surely can be."""
        head = self.head
        if head.method not in IDEMPOTENT or head.framing == NO_BODY:
            return head.method in IDEMPOTENT
        is_small = head.framing == LENGTH and head.length_bytes <= self.parts.config.replay_bytes
        return is_small and self._held is not None

    @property
    def is_replayable(self) -> bool:
        """Whether all of the request that has come can be sent again."""
        return self.head.framing == NO_BODY or self._held is not None

    # the response

    def on_response(self, attempt: Attempt, head: ResponseHead) -> None:
        """Pass the head on, unless another try is better."""
        if head.has_marks:
            trust.hear_response(self, attempt, head)
        if head.status < 200 and head.status != 101:
            if self.course is None or self.course.tries.lets_pass(attempt, head):
                self.caller.pass_informational(head)
            return
        leg = attempt.leg
        if leg is None:
            return
        if head.error and resend.goes_elsewhere(self, attempt, head):
            return
        if self.course is not None and not self.course.tries.accept(attempt, head):
            return
        self.commit(attempt, leg, head)

    def settle(self, attempt: Attempt, head: ResponseHead) -> None:
        """Data have come behind a head that waited for trailers."""
        if self.course is not None and attempt.leg is not None:
            self.course.tries.commit(attempt, head)
            self.commit(attempt, attempt.leg, head)

    def settle_by_trailers(self, attempt: Attempt, head: ResponseHead, trailers: Headers) -> bool:
        """Trailers have come behind a head that waited for them: tell whether this is the client's response."""
        leg = attempt.leg
        if self.course is None or leg is None or not self.course.tries.accept_trailers(attempt, head, trailers):
            return False
        self.commit(attempt, leg, head)
        return True

    def commit(self, attempt: Attempt, leg: Leg, head: ResponseHead) -> None:
        """This is the response that the client gets."""
        self._held = None
        self.status = head.status
        if self.tap is not None:
            self.tap.on_head(head)
        if head.status == 101 or (not head.fields and head.status < 300 and self.head.method == b"CONNECT"):
            self._switch(attempt, leg, head)
        else:
            self.caller.begin_response(head, leg)

    def on_body(self, data: bytes) -> None:  # stop 8
        """Pass the buffer on as it came; the channels hold back whom they must."""
        if self.tap is None:
            self.caller.write_body(data)
        else:
            self.tap.on_body(data)

    def finish(self, attempt: Attempt, trailers: Headers) -> None:  # stop 10
        """Record, give the connection back, let the client go on."""
        if trailers:
            trailers = trust.hear_trailers(self, attempt, trailers)
        if self.tap is not None and not self.tap.on_end(attempt, trailers):
            return
        attempt.record(trailers)
        self.attempt = None
        self.is_over = True
        self.caller.uncouple()
        attempt.finish(self.is_request_done)
        self._end_course(is_whole=True)
        self.caller.end_response(trailers)

    def _switch(self, attempt: Attempt, leg: Leg, head: ResponseHead) -> None:
        """Leave HTTP/1: the server has agreed to another protocol."""
        if head.status == 101 and not upgrade.agrees(self.head.upgrade, head.upgrade):
            self.fail("bad-response", f"101 to a protocol that was not asked for, from {attempt.endpoint.address}")
            return
        attempt.record(())
        attempt.detach()
        self.attempt = None
        self.is_over = True
        place = self.course.hand_over() if self.course is not None else None
        self._end_course(is_whole=False)
        self.caller.uncouple()
        self.caller.switch(head, leg, place)

    # what goes wrong

    def on_unreached(self, attempt: Attempt, reason: str) -> None:
        """No endpoint could be connected to."""
        if self.course is None or not self.course.tries.recover(attempt, reason):
            self.fail(reason, f"{attempt.endpoint.address}, for {self.caller.target}")

    def on_server_lost(self, attempt: Attempt, reason: str, code: int) -> None:
        """The server's connection, or stream, has ended before the response did."""
        if self.tap is not None and self.tap.has_all:
            return  # of the response; it is on its way to the client
        leg = attempt.leg
        word, _, detail = reason.partition(":")
        if self.status:
            self.break_off(word, code, detail)
        elif leg is not None and leg.is_unheard and resend.may_resend(self, word):
            self.has_retried = True
            self.parts.meter.count("outbound_retry_total", (("reason", "keep-alive-race"),))
            attempt.take_again()
        elif self.course is None or not self.course.tries.recover(attempt, word):
            self.fail(word, detail or f"{attempt.endpoint.address}, for {self.caller.target}")

    def break_off(self, word: str, code: int = CANCEL, detail: str = "") -> None:
        """End without an end: so must the client's connection, or stream, or it would take a part for the whole."""
        caller, attempt = self.caller, self.attempt
        last_words: Headers = ()
        if self.status and attempt is not None:
            told = f"{detail or attempt.endpoint.address}, for {caller.target}"
            last_words = self.last_words(word, told)
            attempt.record(last_words)
            self.parts.notice(caller.direction, "response-cut", f"{word}: {told}")
        else:
            blame.count_failure(self, word, REASONS[word].status or 502, -1)
            self.parts.notice(caller.direction, word, f"for {caller.target}")
        self._release(code)
        caller.cut(code, last_words)

    def last_words(self, word: str, detail: str) -> Headers:
        """Give the trailers that tell a gRPC client why its response ends in the middle."""
        pod_name = self.parts.config.pod_name
        return grpc.last_words(self.caller.direction, pod_name, word, detail) if self.head.is_grpc else ()

    def fail(self, reason: str, detail: str, status: int = 0, grpc_status: int = -1, retry_after_s: float = 0) -> None:
        """Answer in the server's stead."""
        is_callers = blame.is_callers(self, reason)
        self.status = status = status or REASONS[reason].status or 502
        if not is_callers:
            blame.count_failure(self, reason, status, grpc_status)
        self._release(CANCEL)
        self.caller.answer(reason, detail, status, grpc_status, retry_after_s)

    def stand_in(self, reason: str, detail: str, status: int, grpc_status: int) -> None:
        """Answer as if the server of the present attempt did, which has been entered there."""
        attempt = self.attempt
        self.status = status
        if attempt is not None:
            attempt.record(())
        self._release(CANCEL)
        self.caller.answer(reason, detail, status, grpc_status)

    def expire(self, reason: str) -> None:
        """End for lack of time: answer if the response has not begun, else break off."""
        caller = self.caller
        if not self.status:
            self.fail(reason, f"for {caller.target}")
            return
        self.parts.notice(caller.direction, reason, f"in the middle of a response, for {caller.target}")
        last_words = self.last_words(reason, f"for {caller.target}")
        if self.attempt is not None:
            self.attempt.record(last_words, is_left=blame.is_callers(self, reason))
        self._release(CANCEL)
        caller.cut(CANCEL, last_words)

    def abort(self, code: int = CANCEL, last_words: Headers = ()) -> None:
        """Stop, answering nothing: the client is gone, and has said so with this code, or gets these trailers."""
        if self.status and self.attempt is not None:
            self.attempt.record(last_words, is_left=not last_words)
        self._release(code)

    def _release(self, code: int) -> None:
        self.is_over = True
        attempt, self.attempt = self.attempt, None
        if attempt is not None:
            attempt.abandon(code)
        self._end_course(is_whole=False)
        self.caller.uncouple()

    def _end_course(self, is_whole: bool) -> None:
        """Let go of who holds this exchange, so that none of them waits for the garbage collector."""
        if self.course is not None:
            self.course.end(is_whole)
            self.course = self.tap = None

    def twin(self, caller: Caller, head: RequestHead) -> "Exchange":
        """Make an exchange of the same request for another caller."""
        return Exchange(caller, head)

    @property
    def queued_bytes(self) -> int:
        """Request bytes that have come and are not sent yet."""
        if self.attempt is None or self.attempt.leg is None:
            return self._held_bytes
        return self.attempt.leg.queued_bytes

    @property
    def held_bytes(self) -> int:
        """What is held of the request: its head, what is kept for another try, or what is not sent yet."""
        kept_bytes = self._held_bytes if self._held is not None else 0
        return self.head.memory_bytes + 2 * len(self.head.raw) + max(kept_bytes, self.queued_bytes)

    def hold_response(self) -> None:
        """Let no more of the response come for now."""
        if self.attempt is not None and self.attempt.leg is not None:
            self.attempt.leg.hold()

    def release_response(self) -> None:
        if self.attempt is not None and self.attempt.leg is not None:
            self.attempt.leg.release()

    def check(self, now_s: float) -> None:
        """End what has lasted too long (called by the sweep, a few times a second)."""
        config = self.parts.config
        if not self.status and 0 < config.request_timeout_s < now_s - self.started_s:
            self.expire("request-timeout")
            return
        idle_timeout_s = config.stream_idle_timeout_s
        if self.course is not None:
            self.course.check(now_s)
            idle_timeout_s = self.course.decision.idle_s or idle_timeout_s
        attempt = self.attempt
        leg = attempt.leg if attempt is not None else None
        active_s = max(self.caller.active_s, leg.active_s if leg is not None else self.started_s)
        if now_s - active_s > idle_timeout_s:
            self.expire("idle-timeout")
