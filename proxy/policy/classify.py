"""Whether a response is a success. Pure.

Two questions, two answers: what metrics count as a failure (Linkerd's list, so that dashboards agree), and what speaks
against the endpoint that answered, for circuit breaking (a refused permission does not).

Sources: gRPC's status codes and their use (github.com/grpc/grpc, doc/statuscodes.md) and what a client takes an HTTP
status without a grpc-status for (doc/http-grpc-status-mapping.md).
"""

from typing import Final

GRPC_FAULTS: Final = frozenset(("2", "4", "7", "13", "14", "15"))
"""UNKNOWN, DEADLINE_EXCEEDED, PERMISSION_DENIED, INTERNAL, UNAVAILABLE, DATA_LOSS: what Linkerd counts as failures."""

GRPC_SERVER_FAULTS: Final = frozenset((2, 4, 13, 14, 15))
"""UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS."""

GRPC_MAX: Final = 16
"""UNAUTHENTICATED, the last code that there is."""

NO_GRPC_STATUS: Final = -1

UNKNOWN: Final = 2

_HTTP_TO_GRPC: Final = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}


def response(status: int) -> bool:  # stop 9
    """Tell success (True) from failure: a server's fault (5xx) is a failure, a client's (4xx) is not."""
    return status < 500


def grpc(status: int, code: str) -> bool:
    """The same for gRPC, by the `grpc-status` in decimal; one that gRPC does not know is UNKNOWN."""
    return status < 500 and code not in GRPC_FAULTS and code.isdecimal() and int(code) <= GRPC_MAX


def grpc_status(status: int, code: int) -> int:
    """Give the outcome of a gRPC call as its client sees it: `grpc-status`, or else what the HTTP status stands for.

    Args:
        status: of the response; 0 when there was none.
        code: `grpc-status`; NO_GRPC_STATUS when there is none.
    """
    return code if code >= 0 else _HTTP_TO_GRPC.get(status, UNKNOWN)


def is_server_sound(status: int, code: int = NO_GRPC_STATUS) -> bool:
    """Tell whether a result speaks for its endpoint; `status` 0: no response, `code`: a gRPC call's status."""
    return 0 < status < 500 and code not in GRPC_SERVER_FAULTS
