"""How long an exchange may take, and what to tell the next one. Pure.

Theory of operation: a deadline shrinks along the chain of calls. A sidecar tells the server's sidecar how long the
client will wait (`x-tulle-timeout-ms`, relative, so that no clocks need to agree). Towards its own application it also
says when that is over (`x-tulle-deadline`, Unix milliseconds, on the clock that both share); an application that
passes this one header on with its own calls has them cut off when nobody waits for their answers any more. gRPC has
`grpc-timeout` for the same (see wire.grpc) and passes it on by itself. The shortest of all limits holds; none of these
can lengthen what the policy allows.

Seconds here are as in contract.policy: 0.0 is no limit. EXPIRED means that the time was over before the request came.
"""

from typing import Final

from contract.headers import DEADLINE, TIMEOUT

TIMEOUT_NAME: Final = TIMEOUT.encode()
DEADLINE_NAME: Final = DEADLINE.encode()

NO_LIMIT: Final = 0.0
EXPIRED: Final = -1.0

DIGITS_MAX: Final = 16
"""Longer numbers are not times; they are ignored like anything else that is malformed."""


def remaining_s(policy_s: float, timeout: bytes, deadline: bytes, grpc_s: float, unix_s: float) -> float:
    """Give the time that is left for an exchange: its shortest limit.

    Args:
        policy_s: the policy's request timeout.
        timeout: value of `x-tulle-timeout-ms`; empty when there is none.
        deadline: value of `x-tulle-deadline`; empty when there is none.
        grpc_s: seconds of `grpc-timeout`; negative when there is none.
        unix_s: seconds since 1970, of the clock that the application reads.

    Returns:
        Seconds, NO_LIMIT or EXPIRED.
    """
    least_s = policy_s
    if timeout:
        least_s = _shorter(least_s, _milliseconds(timeout) / 1e3)
    if deadline:
        at_s = _milliseconds(deadline) / 1e3
        if at_s >= 0.0:
            least_s = _shorter(least_s, max(0.0, at_s - unix_s))
    return _shorter(least_s, grpc_s)


def _shorter(least_s: float, limit_s: float) -> float:
    """Take one more limit into account; nothing left is EXPIRED, a negative `limit_s` is none."""
    if limit_s < 0.0 or least_s == EXPIRED:
        return least_s
    if limit_s == 0.0:
        return EXPIRED
    return limit_s if least_s == NO_LIMIT else min(least_s, limit_s)


def _milliseconds(value: bytes) -> float:
    """Read a decimal number; -1000 when it is none."""
    return float(int(value)) if len(value) <= DIGITS_MAX and value.isdigit() else -1e3


def timeout_ms(left_s: float) -> bytes:
    """Write `x-tulle-timeout-ms`: what is left, one millisecond at least."""
    return b"%d" % max(1, int(left_s * 1e3))


def deadline_ms(left_s: float, unix_s: float) -> bytes:
    """Write `x-tulle-deadline`: when it will be over."""
    return b"%d" % int((unix_s + left_s) * 1e3)
