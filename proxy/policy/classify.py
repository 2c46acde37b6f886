"""Whether a response is a success. Pure.

Source: gRPC's status codes and their use (github.com/grpc/grpc, doc/statuscodes.md).
"""

from typing import Final

GRPC_FAULTS: Final = frozenset(("2", "4", "7", "13", "14", "15"))
"""UNKNOWN, DEADLINE_EXCEEDED, PERMISSION_DENIED, INTERNAL, UNAVAILABLE, DATA_LOSS: what Linkerd counts as failures."""


def response(status: int) -> bool:  # stop 9
    """Tell success (True) from failure: a server's fault (5xx) is a failure, a client's (4xx) is not."""
    return status < 500


def grpc(status: int, code: str) -> bool:
    """The same for gRPC, by the `grpc-status` in decimal; one that gRPC does not know is UNKNOWN."""
    return status < 500 and code not in GRPC_FAULTS and code.isdecimal() and int(code) <= 16
