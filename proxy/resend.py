"""Sending a request once more without being asked by a policy: no server has read a byte of it. Turn.

A kept-alive connection may die under a request, and another sidecar may say that it could not reach its application.

Sources: RFC 9110 section 9.2.2 (idempotent methods); RFC 9112 section 9.3.1 (retrying on a closed connection); RFC 9113
section 8.7 (requests that are safe to send again).
"""

from typing import TYPE_CHECKING, Final

from proxy.attempt import Attempt
from proxy.errors import REPICK_REASONS
from proxy.model import ResponseHead
from proxy.policy import balance
from proxy.policy.hedge import IDEMPOTENT
from proxy.wire.streams import CANCEL

if TYPE_CHECKING:
    from proxy.exchange import Exchange

_REPICK_ERRORS: Final = frozenset(reason.encode() for reason in REPICK_REASONS)


def may_resend(exchange: "Exchange", word: str) -> bool:
    """Tell whether a request that was surely not begun on may go to the same endpoint again."""
    if exchange.has_retried or not exchange.is_replayable:
        return False
    return word == "stream-refused" or (word == "server-closed" and exchange.head.method in IDEMPOTENT)


def goes_elsewhere(exchange: "Exchange", attempt: Attempt, head: ResponseHead) -> bool:
    """Pick again, once, where another sidecar has said that it could not reach its application; tell whether so."""
    error = head.error
    if error not in _REPICK_ERRORS:
        return False
    if head.status not in (502, 504) and not (exchange.head.is_grpc and head.grpc_status > 0):
        return False
    failed = attempt.endpoint
    if exchange.has_retried or not exchange.is_replayable or len(exchange.caller.target.known) < 2:
        return False
    exchange.has_retried = True
    balance.bar(failed, exchange.parts.pump.now_s)
    endpoint = exchange.pick()
    if endpoint is failed:
        return False
    exchange.parts.meter.count("outbound_repick_total", (("reason", error.decode()),))
    attempt.abandon(CANCEL)
    again = Attempt(exchange, endpoint, attempt.number)
    again.is_sent = True
    exchange.start(again)
    return True
