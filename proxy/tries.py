"""The tries of one exchange under a policy: the first, the hedges beside it, the retries after it. Turn.

Of a try that fails, or answers with what the policy calls a failure, `_follows` says whether another one goes on or
follows; a try that answers well is committed, and all others are cancelled. Each try says on the wire which one it is
and how much time is left.
"""

from functools import partial
from typing import TYPE_CHECKING, Final

from contract.headers import ATTEMPT
from contract.metrics import INBOUND
from proxy import mishap
from proxy.attempt import Attempt
from proxy.errors import REASONS
from proxy.model import NO_BODY, Headers, RequestHead, ResponseHead
from proxy.policy import classify, deadline, hedge, retry
from proxy.pool import Endpoint
from proxy.wire import grpc
from proxy.wire.streams import CANCEL

if TYPE_CHECKING:
    from proxy.course import Course
    from proxy.exchange import Exchange

NEAR_S: Final = 0.6
"""The end of a try, or of an exchange, that is nearer than this gets a timer: more than two sweeps."""

MAX_HINTS_BYTES: Final = 16384
"""Informational heads that wait in one exchange; more are dropped, as clients may do too (RFC 9110 section 15.2)."""

_ATTEMPT: Final = ATTEMPT.encode()
_GRPC_TIMEOUT: Final = b"grpc-timeout"

_KINDS: Final[dict[str, retry.Kind]] = {
    "connect-refused": "unsent",
    "connect-unreachable": "unsent",
    "connect-timeout": "unsent",
    "stream-refused": "unsent",
    "try-timeout": "timeout",
}
"""Reason word -> how a try has failed; any other is a reset."""


class Tries:
    """Made by a course."""

    __slots__ = (
        "_course",
        "_exchange",
        "_failed",
        "_has_continued",
        "_hedges_count",
        "_hints",
        "_hints_bytes",
        "_retries_count",
        "_tries_count",
        "rivals",
    )

    def __init__(self, course: "Course", exchange: "Exchange") -> None:
        self.rivals: list[Attempt] = []
        """Tries that are under way beside the exchange's own."""
        self._course = course
        self._exchange = exchange
        self._tries_count = 0
        self._retries_count = 0
        self._hedges_count = 0
        self._failed: tuple[Endpoint, ...] = ()
        self._has_continued = False
        """The client has been asked for its body, by whichever try."""
        self._hints: list[tuple[Attempt, ResponseHead]] = []
        """Informational heads of tries that may still be discarded."""
        self._hints_bytes = 0

    def pick(self) -> Endpoint:
        return self._course.traffic.pick(self._course.decision, self._failed)

    def start(self) -> None:
        """Begin another try, where there is room for one."""
        exchange = self._exchange
        endpoint = exchange.pick()
        room = self._course.traffic.room
        if room is not None and self._course.traffic.is_full(endpoint):
            self._course.wait_at(room)
            return
        self._tries_count += 1
        self._begin(Attempt(exchange, endpoint, self._tries_count))
        if self._tries_count == 1:
            self._plan_hedge()

    def _begin(self, attempt: Attempt) -> None:
        injected = self._course.traffic.draw_fault(self._exchange.head)
        if injected is None:
            self._exchange.start(attempt)
        else:
            mishap.meet(self._course, self._exchange, attempt, injected)

    def head_for(self, attempt: Attempt) -> RequestHead:
        """Say on the wire which try this is and how much time is left; begin the try's own time."""
        exchange = self._exchange
        head = exchange.head
        now_s = exchange.parts.pump.now_s
        if attempt.number > 1:
            head = head.with_value(_ATTEMPT, b"%d" % attempt.number)
        if self._course.expires_as:
            left_s = self._course.deadline_s - now_s
            if exchange.caller.direction == INBOUND:
                head = head.with_value(deadline.DEADLINE_NAME, deadline.deadline_ms(left_s, exchange.parts.unix_s()))
            else:
                head = head.with_value(deadline.TIMEOUT_NAME, deadline.timeout_ms(left_s))
            if head.is_grpc:
                head = head.with_value(_GRPC_TIMEOUT, grpc.format_timeout(left_s))
        self.bound(attempt)
        return head

    def bound(self, attempt: Attempt) -> None:
        """Begin the try's own time."""
        per_try_s = self._course.decision.per_try_s
        if per_try_s > 0 and not attempt.ends_s:
            now_s = self._exchange.parts.pump.now_s
            attempt.ends_s = now_s + per_try_s
            self._arm(attempt, now_s)

    def check(self, now_s: float) -> None:
        """Arm the ends of tries that are near."""
        attempt = self._exchange.attempt
        if attempt is not None:
            self._arm(attempt, now_s)
        for rival in self.rivals:
            self._arm(rival, now_s)

    def _arm(self, attempt: Attempt, now_s: float) -> None:
        if attempt.ends_s and attempt.timer is None and attempt.ends_s - now_s < NEAR_S:
            ends = partial(self._on_try_timeout, attempt)
            attempt.timer = self._exchange.parts.pump.call_at(attempt.ends_s, ends)

    def _on_try_timeout(self, attempt: Attempt) -> None:
        exchange = self._exchange
        if exchange.is_over or attempt.is_over or attempt.status:
            return
        self._course.count("timeouts_total", ("direction", exchange.caller.direction), ("kind", "per-try"))
        exchange.on_server_lost(attempt, "try-timeout", CANCEL)

    def _plan_hedge(self) -> None:
        hedging = self._course.decision.hedge
        exchange = self._exchange
        if hedging is None or exchange.is_over or self._hedges_count >= hedging.limit_count:
            return
        if exchange.head.is_personal or exchange.caller.own is not None:
            return  # on any other connection the server would not know the client, and say so soon
        delay_s = hedge.after_s(hedging, self._course.traffic.sketch, exchange.parts.pump.now_s)
        if delay_s >= 0.0:
            self._course.after(delay_s, self._hedge)

    def _hedge(self) -> None:
        """The tries so far are slow: begin another one beside them."""
        exchange = self._exchange
        hedging = self._course.decision.hedge
        main = exchange.attempt
        if hedging is None or exchange.is_over or exchange.status or main is None:
            return
        busy = (*self._failed, main.endpoint, *(rival.endpoint for rival in self.rivals))
        endpoint = self._course.traffic.pick(self._course.decision, busy)
        if endpoint in busy or self._course.traffic.is_full(endpoint):
            return
        why_not = hedge.judge(
            hedging,
            exchange.head.method,
            self._hedges_count,
            exchange.is_replayable,
            self._course.traffic.account,
            exchange.parts.pump.now_s,
        )
        if why_not:
            self._course.count("outbound_hedge_skipped_total", ("reason", why_not))
            return
        self._hedges_count += 1
        self._tries_count += 1
        self._course.count("outbound_hedge_requests_total")
        self.rivals.append(main)
        self._begin(Attempt(exchange, endpoint, self._tries_count, is_hedge=True))
        self._plan_hedge()

    # after a try

    def lets_pass(self, attempt: Attempt, head: ResponseHead) -> bool:
        """An informational head has come: tell whether it is the client's now.

        Where another try may take this one's place, its hints wait for its final head, and pass or go with that. Only
        100 passes at once, and once: it asks for the body that every try needs.
        """
        decision = self._course.decision
        if decision.retries is None and decision.hedge is None:
            return True
        if head.status == 100:
            has_continued, self._has_continued = self._has_continued, True
            return not has_continued
        self._hints_bytes += len(head.raw) + sum([len(name) + len(value) for name, value in head.fields])
        if self._hints_bytes <= MAX_HINTS_BYTES:
            self._hints.append((attempt, head))
        return False

    def accept(self, attempt: Attempt, head: ResponseHead) -> bool:
        """A final head has come: tell whether it is the client's now; else it waits, or another try is better."""
        exchange = self._exchange
        retries = self._course.decision.retries
        if retries is not None:
            is_open = exchange.head.is_grpc and head.status == 200 and head.grpc_status < 0 and head.framing != NO_BODY
            if is_open and retries.grpc_statuses and exchange.tap is not None:
                exchange.tap.pending = (attempt, head)  # the status comes with the trailers, unless data come first
                return False
            is_listed = retry.lists_answer(retries, head.status, head.grpc_status, exchange.head.is_grpc)
            if is_listed and self._follows(attempt, retry.Failure("answer", head.status, head.grpc_status)):
                attempt.record(())
                self._leave(attempt)
                return False
        self.commit(attempt, head)
        return True

    def accept_trailers(self, attempt: Attempt, head: ResponseHead, trailers: Headers) -> bool:
        """A gRPC response has ended before any data: the same question."""
        code = classify.grpc_status(head.status, grpc.status_of(trailers))
        if self._follows(attempt, retry.Failure("answer", head.status, code)):
            attempt.record(trailers)
            attempt.finish(self._exchange.is_request_done)
            self._leave(attempt)
            return False
        self.commit(attempt, head, code)
        return True

    def recover(self, attempt: Attempt, word: str) -> bool:
        """A try has come to nothing: tell whether another one goes on, or follows."""
        if self._follows(attempt, retry.Failure(_KINDS.get(word, "reset"))):
            attempt.record_failure(word, REASONS[word].status or 502)
            self._leave(attempt)
            return True
        return False

    def _follows(self, attempt: Attempt, failure: retry.Failure) -> bool:
        """Tell whether there is another try after this one failed, and plan it if it is not under way already."""
        exchange = self._exchange
        retries = self._course.decision.retries
        head = exchange.head
        if exchange.status:
            return False
        if self.rivals:
            return failure.kind != "answer" or (retries is not None and retry.is_listed(retries, failure, head.is_grpc))
        if retries is None:
            return False
        tried = retry.Tried(head.method, head.is_grpc, self._retries_count, exchange.is_replayable)
        why_not = retry.judge(retries, failure, tried, self._course.traffic.account, exchange.parts.pump.now_s)
        if why_not == "status":
            return False
        if why_not:
            self._course.count("outbound_retry_skipped_total", ("reason", why_not))
            return False
        self._course.count("outbound_retry_requests_total")
        self._failed = (*self._failed, attempt.endpoint)
        self._course.after(retry.backoff_s(retries, self._retries_count, exchange.parts.random), self._try_again)
        self._retries_count += 1
        return True

    def _leave(self, attempt: Attempt) -> None:
        """Let go of a try that has failed; the exchange's own is then one of the others, or the next."""
        exchange = self._exchange
        if attempt in self.rivals:
            self.rivals.remove(attempt)
        elif attempt is exchange.attempt:
            exchange.attempt = self.rivals.pop() if self.rivals else None
        attempt.abandon(CANCEL)

    def _try_again(self) -> None:
        if not self._exchange.is_over:
            self.start()

    def commit(self, attempt: Attempt, head: ResponseHead, code: int = 0) -> None:
        """This try's response is the client's: cancel all others. `code`: of gRPC, where its trailers have told it."""
        exchange = self._exchange
        if attempt is not exchange.attempt and exchange.attempt is not None:
            self.rivals.remove(attempt)
            self.rivals.append(exchange.attempt)
            exchange.attempt = attempt
        if self._tries_count > 1 and attempt.leg is not None:
            exchange.caller.couple(attempt.leg)  # until now another try's leg may have held the client back
        if attempt.is_hedge:
            self._course.count("outbound_hedge_wins_total")
        elif attempt.number > 1 and classify.response(head.status) and max(code, head.grpc_status) <= 0:
            self._course.count("outbound_retry_successes_total")
        self.cancel_rivals(is_beaten=True)
        hints, self._hints = self._hints, []
        for hinting, hint in hints:
            if hinting is attempt:
                exchange.caller.pass_informational(hint)
        self._course.traffic.mark(self._course.decision, head, attempt.endpoint)
        if attempt.fault is not None:
            self._course.narrow(attempt.fault)

    def cancel_rivals(self, is_beaten: bool) -> None:
        """`is_beaten`: another try was faster."""
        while self.rivals:
            self.rivals.pop(0).abandon(CANCEL, is_beaten)
