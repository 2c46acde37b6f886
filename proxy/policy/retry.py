"""Whether a failed try is followed by another, and after what pause. Pure.

Theory of operation: the policy lists what it takes for a failure, by kind (see `Failure`), HTTP status or gRPC status.
A listed failure is followed by another try if the request may be sent twice (a failure before the server has read a
byte is safe for any method), tries are left, the request's body is still held whole, and the service's budget has
room; asked in this order, the budget last, because asking it spends. Each refusal has its own word, for metrics and
for who wonders why there was no retry.

Sources: RFC 9110 section 9.2.2 (idempotent methods), RFC 9113 section 8.7 (REFUSED_STREAM, GOAWAY); gRFC A6 for what
gRPC holds retryable; M. Brooker, "Exponential Backoff and Jitter" (AWS, 2015) for full jitter.
"""

from collections.abc import Callable
from typing import Final, Literal

from contract.policy import Retries
from proxy.policy.budget import Account
from proxy.policy.classify import NO_GRPC_STATUS

Refusal = Literal["", "status", "method", "limit", "body", "budget"]
"""Why there is no other try; empty: there is one, and it is paid for. `status`: the policy lists no such failure."""

Kind = Literal["answer", "unsent", "reset", "timeout"]

UNAVAILABLE: Final = 14
DEADLINE_EXCEEDED: Final = 4
"""What a gRPC client would see of a reset and of a try whose time was up."""

EXPONENT_MAX: Final = 16


class Failure:
    """How a try has ended.

    Attributes:
        kind: `answer`: with a response; `unsent`: no connection, or one that ended before a byte of the request was
            read (GOAWAY, REFUSED_STREAM); `reset`: the server reset or closed before its response began; `timeout`:
            the try's time was up.
        status: HTTP status of an answer, else 0.
        grpc_status: of an answer to gRPC, NO_GRPC_STATUS when there is none.
    """

    __slots__ = ("grpc_status", "kind", "status")

    def __init__(self, kind: Kind, status: int = 0, grpc_status: int = NO_GRPC_STATUS) -> None:
        self.kind: Kind = kind
        self.status = status
        self.grpc_status = grpc_status


class Tried:
    """A request and what has become of it so far.

    Attributes:
        method: as on the wire.
        is_grpc: whether grpc-status tells the outcome.
        retries_count: tries after the first, so far.
        is_held: whether its body, as far as it has come, can be sent again.
    """

    __slots__ = ("is_grpc", "is_held", "method", "retries_count")

    def __init__(self, method: bytes, is_grpc: bool, retries_count: int, is_held: bool) -> None:
        self.method = method
        self.is_grpc = is_grpc
        self.retries_count = retries_count
        self.is_held = is_held


def judge(retries: Retries, failure: Failure, tried: Tried, account: Account, now_s: float) -> Refusal:
    """Decide on another try; when the answer is empty, the try has been withdrawn from the account."""
    if not is_listed(retries, failure, tried.is_grpc):
        return "status"
    if failure.kind != "unsent" and not tried.is_grpc and tried.method.decode("latin-1") not in retries.methods:
        return "method"
    if tried.retries_count >= retries.limit_count:
        return "limit"
    if not tried.is_held:
        return "body"
    if not account.withdraw(now_s):
        return "budget"
    return ""


def is_listed(retries: Retries, failure: Failure, is_grpc: bool) -> bool:
    """Tell whether the policy takes this for a failure that another try may mend."""
    kind = failure.kind
    if kind == "unsent":
        return retries.on_connect_failure
    if kind == "reset" or kind == "timeout":
        status = UNAVAILABLE if kind == "reset" else DEADLINE_EXCEEDED
        return retries.on_reset or (is_grpc and status in retries.grpc_statuses)
    return lists_answer(retries, failure.status, failure.grpc_status, is_grpc)


def lists_answer(retries: Retries, status: int, grpc_status: int, is_grpc: bool) -> bool:
    """Tell the same of an answer."""
    if is_grpc:
        return grpc_status in retries.grpc_statuses
    return any(low <= status <= high for low, high in retries.statuses)


def backoff_s(retries: Retries, retries_count: int, random: Callable[[], float]) -> float:
    """Draw the pause before the next try; `retries_count` as in Tried, so 0 before the first retry."""
    limit_s = retries.backoff_min_s * 2.0 ** min(retries_count, EXPONENT_MAX)
    return random() * min(retries.backoff_max_s, limit_s)
