"""Whose failure it was that an exchange has come to nothing, and where it is counted. Turn.

A server that did not answer failed, and its endpoint is judged by it. Where the caller's own time was up, or the caller
left the server waiting for the rest of its request, the failure is the caller's: it says nothing of the endpoint (no
datum for balancing, circuit breaking or hedging) nor of success, and counts like a client that went away: in
`*_http_errors_total` and in `request_total`, but not as a response.
"""

from typing import TYPE_CHECKING

from proxy.attempt import count_failure as enter
from proxy.wire import grpc

if TYPE_CHECKING:
    from proxy.exchange import Exchange


def is_callers(exchange: "Exchange", reason: str) -> bool:
    """Tell whether an exchange that ends for this reason does so because of its caller."""
    if reason == "caller-timeout":
        return True
    if reason != "idle-timeout" and reason != "request-timeout":
        return False
    if exchange.status:
        return reason == "idle-timeout"  # both are silent: whether the caller would take more is not known
    attempt = exchange.attempt
    leg = attempt.leg if attempt is not None else None
    return leg is not None and not exchange.is_request_done and not leg.queued_bytes


def count_failure(exchange: "Exchange", reason: str, status: int, grpc_status: int) -> None:
    """Enter a failure where the request was sent, or was to be sent."""
    if exchange.attempt is not None:
        exchange.attempt.record_failure(reason, status, grpc_status)
        return
    series = exchange.probes or exchange.caller.target.http
    series.requests += 1
    code = grpc_status if grpc_status >= 0 else grpc.status_for(reason, status)
    latency_s = exchange.parts.pump.now_s - exchange.started_s
    enter(series, status, str(code) if exchange.head.is_grpc else "", latency_s)
