"""What a FaultInjection does to one try, in place of its server or before it. Turn.

A fault is drawn for each try, hedges and retries too: it stands for what a server does, so all that follows from a
server's answer follows from it. Retries look at its status, the circuit breaker and the counters enter it at the
endpoint that was picked, hedges and the limits of a try wait for it, and a try that is held counts as in flight.
"""

from functools import partial
from typing import TYPE_CHECKING, Final

from proxy.attempt import Attempt
from proxy.model import NO_BODY, ResponseHead
from proxy.policy.fault import Injection
from proxy.wire import grpc

if TYPE_CHECKING:
    from proxy.course import Course
    from proxy.exchange import Exchange

_REASON: Final = "fault-injected"


def meet(course: "Course", exchange: "Exchange", attempt: Attempt, injected: Injection) -> None:
    """Hold the try, then answer, reset, or let it go on."""
    attempt.fault = injected
    exchange.attempt = attempt
    attempt.endpoint.in_flight += 1
    course.tries.bound(attempt)
    if injected.delay_s > 0:
        course.count("outbound_faults_total", ("kind", "delay"))
        course.after(injected.delay_s, partial(_go_on, course, exchange, attempt, injected))
    else:
        _go_on(course, exchange, attempt, injected)


def _go_on(course: "Course", exchange: "Exchange", attempt: Attempt, injected: Injection) -> None:
    if exchange.is_over or attempt.is_over:
        return
    is_grpc = exchange.head.is_grpc
    if injected.abort_status or (is_grpc and injected.abort_grpc_status >= 0):
        course.count("outbound_faults_total", ("kind", "abort"))
        _answer(course, exchange, attempt, injected)
    elif injected.is_reset:
        course.count("outbound_faults_total", ("kind", "reset"))
        if not course.tries.recover(attempt, _REASON):
            exchange.break_off(_REASON)
    else:
        attempt.endpoint.in_flight -= 1
        attempt.take()


def _answer(course: "Course", exchange: "Exchange", attempt: Attempt, injected: Injection) -> None:
    """Let the exchange take it for the server's answer: another try may be better."""
    status = injected.abort_status or 503
    code = -1
    if exchange.head.is_grpc:
        code = injected.abort_grpc_status
        if code < 0:
            code = grpc.status_for(_REASON, status)
        status = 200
    attempt.enter(status, code)
    head = ResponseHead(b"", status, 1, NO_BODY, 0, True, _REASON.encode(), (), code)
    if course.tries.accept(attempt, head):
        exchange.stand_in(_REASON, injected.name, injected.abort_status or 503, code)
