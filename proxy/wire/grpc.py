"""gRPC over HTTP/2, as far as a proxy takes part: deadlines, statuses, and failures of the mesh's own. Pure.

Which statuses are the server's fault is policy.classify's to say.

Sources: gRPC over HTTP/2 (github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md), its status codes (doc/statuscodes.md) and their
relation to HTTP's (doc/http-grpc-status-mapping.md); Linkerd for what a mesh's own failures are called.
"""

import re
from typing import Final

from contract.headers import ERROR
from proxy.errors import REASONS, explain
from proxy.model import Headers

OK: Final = 0
CANCELLED: Final = 1
UNKNOWN: Final = 2
DEADLINE_EXCEEDED: Final = 4
PERMISSION_DENIED: Final = 7
RESOURCE_EXHAUSTED: Final = 8
UNIMPLEMENTED: Final = 12
INTERNAL: Final = 13
UNAVAILABLE: Final = 14
UNAUTHENTICATED: Final = 16

MAX_STATUS: Final = 16

_TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])").fullmatch
_UNITS_S: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_FINEST: Final = ((b"n", 1e-9), (b"u", 1e-6), (b"m", 1e-3), (b"S", 1.0), (b"M", 60.0), (b"H", 3600.0))
_TIMEOUT_LIMIT: Final = 10**8
"""The first number that has more than eight digits."""

_ESCAPED: Final = re.compile(rb"[^\x20-\x24\x26-\x7e]")

_BY_HTTP: Final = {
    400: INTERNAL,
    401: UNAUTHENTICATED,
    403: PERMISSION_DENIED,
    404: UNIMPLEMENTED,
    408: DEADLINE_EXCEEDED,
    429: RESOURCE_EXHAUSTED,
    431: RESOURCE_EXHAUSTED,
    500: INTERNAL,
    501: UNIMPLEMENTED,
    502: UNAVAILABLE,
    503: UNAVAILABLE,
    504: DEADLINE_EXCEEDED,
    508: INTERNAL,
}
_BY_REASON: Final = {
    "connect-timeout": UNAVAILABLE,
    "idle-timeout": UNAVAILABLE,
    "memory-shed": RESOURCE_EXHAUSTED,
    "ping-timeout": UNAVAILABLE,
    "bad-response": INTERNAL,
}
"""Where the HTTP status says too little: no deadline of the request's has passed, or another try would not help."""

_ERROR: Final = ERROR.encode()
_RESETS: Final = frozenset({"stream-reset", "fault-injected"})


def parse_timeout_s(value: bytes) -> float:
    """Read a `grpc-timeout`; -1 for one that the protocol does not allow, which counts as absent."""
    found = _TIMEOUT(value)
    if found is None:
        return -1.0
    return int(found[1]) * _UNITS_S[found[2]]


def format_timeout(timeout_s: float) -> bytes:
    """Write a `grpc-timeout` in the finest unit that has room; never longer than what was asked for."""
    for unit, unit_s in _FINEST:
        count = int(max(0.0, timeout_s) / unit_s)
        if count < _TIMEOUT_LIMIT:
            return b"%d%b" % (count, unit)
    return b"99999999H"


def encode_message(text: str) -> bytes:
    """Write a `grpc-message`: all but printable ASCII as %XX of its UTF-8."""
    return _ESCAPED.sub(_escape, text.encode("utf-8", "replace"))


def _escape(found: re.Match[bytes]) -> bytes:
    return b"%%%02X" % found[0][0]


def status_for(reason: str, http_status: int) -> int:
    """Give the status that tells a gRPC client of a failure of the mesh's."""
    code = _BY_REASON.get(reason)
    return _BY_HTTP.get(http_status, UNKNOWN) if code is None else code


def failure(status: int, message: str) -> Headers:
    """Make the headers of a response that is nothing but a failure (Trailers-Only); they end the stream."""
    return ((b":status", b"200"), (b"content-type", b"application/grpc"), *trailers(status, message))


def trailers(status: int, message: str) -> Headers:
    """Make what ends a response that has begun."""
    return ((b"grpc-status", b"%d" % status), (b"grpc-message", encode_message(message)))


def last_words(direction: str, pod_name: str, reason: str, detail: str) -> Headers:
    """Make the trailers of a response that breaks off, so that clients try again which a reset would make give up.

    A server's own reset stays a reset, and so does one that a policy asked for: for these there are none.
    """
    if reason in _RESETS:
        return ()
    status = status_for(reason, REASONS[reason].status or 502)
    text = explain(direction, pod_name, reason, detail).decode().strip()
    return (*trailers(status, text), (_ERROR, reason.encode()))


def status_of(fields: Headers) -> int:
    """Read the `grpc-status` of trailers, or of a head that is all there is; -1 when they have none."""
    for name, value in fields:
        if name == b"grpc-status":
            return parse_status(value)
    return -1


def parse_status(value: bytes) -> int:
    """Read a `grpc-status`; what is no number, or one that gRPC does not know, is UNKNOWN."""
    code = int(value) if len(value) <= 2 and value.isdigit() else UNKNOWN
    return code if code <= MAX_STATUS else UNKNOWN
