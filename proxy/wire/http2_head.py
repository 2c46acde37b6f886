"""HTTP/2 heads: from headers that libnghttp2 has found well-formed to a checked value. Pure.

libnghttp2 refuses what RFC 9113 section 8 forbids: unknown, repeated, missing or late pseudo-headers, headers of one
connection only (`connection`, `te` other than `trailers`), names and values with forbidden characters, a content-length
that is no number, repeated or not kept. Here the meaning is read, and what a proxy must refuse itself. All headers go
on as they came; `:authority` and Host are judged as HTTP/1's are (wire.authority).

Sources: RFC 9113 sections 8.1 to 8.3, 8.5; RFC 8441; gRPC over HTTP/2.
"""

from typing import Final

from proxy.errors import WireFault
from proxy.model import NO_BODY, UNTIL_CLOSE, Headers, RequestHead, ResponseHead
from proxy.wire.authority import HTTP_PORT, HTTPS_PORT, normal_list
from proxy.wire.grpc import parse_status

_HEADER_BYTES: Final = 4
"""What each header counts for beside its bytes: a colon, a space and the line's end, so that both versions have one
limit."""

_FIELD_MEMORY_BYTES: Final = 128
"""What the objects of a field take beside its bytes."""

_GRPC: Final = b"application/grpc"
_MARK: Final = b"x-tulle-"


def read_request(fields: Headers, ended: bool, max_head_bytes: int, max_fields_count: int = 2048) -> RequestHead:
    """Read a request's headers; raise WireFault, whose reason has the status to answer with."""
    size_bytes = _HEADER_BYTES * len(fields)
    method = path = scheme = authority = host = b""
    framing = NO_BODY if ended else UNTIL_CLOSE
    length_bytes = 0
    is_grpc = has_marks = False
    for name, value in fields:
        size = len(name)  # fast: a number tells most names apart
        size_bytes += size + len(value)
        if size == 5 and name == b":path":
            path = value
        elif size == 7:
            if name == b":method":
                method = value
            elif name == b":scheme":
                scheme = value
        elif size == 10 and name == b":authority":
            authority = value
        elif size == 12 and name == b"content-type":
            is_grpc = _is_grpc(value)
        elif size == 14 and name == b"content-length":
            length_bytes = int(value)
        elif size == 4 and name == b"host":
            if host:
                raise WireFault("duplicate-host")
            host = value
        elif (size == 12 and name == b"grpc-timeout") or (size >= 8 and name[0] == 120 and name.startswith(_MARK)):
            has_marks = True
    if size_bytes > max_head_bytes or len(fields) > max_fields_count:
        raise _too_large(fields, size_bytes)
    default_port = HTTPS_PORT if scheme == b"https" else 0 if method == b"CONNECT" and not scheme else HTTP_PORT
    told = normal_list(authority or host, default_port)
    if host and host != authority and normal_list(host, default_port) != told:
        raise WireFault("host-conflict", f"{_text(authority)} and {_text(host)}")
    if length_bytes and method == b"CONNECT":
        raise WireFault("connect-with-body", f"{length_bytes} bytes")
    # A CONNECT has no path: it asks for its authority.
    target = path or authority
    head = RequestHead(b"", method, target, 1, framing, length_bytes, True, b"", has_marks, fields, is_grpc, told)
    head.memory_bytes = size_bytes + _FIELD_MEMORY_BYTES * len(fields)
    return head


def read_response(
    fields: Headers, ended: bool, max_head_bytes: int = 65536, max_fields_count: int = 2048
) -> ResponseHead:
    """Read a response's headers, informational or final; raise WireFault for those that are too large."""
    size_bytes = _HEADER_BYTES * len(fields)
    status = 0
    framing = NO_BODY if ended else UNTIL_CLOSE
    length_bytes = 0
    grpc_status = -1
    error = b""
    has_marks = False
    for name, value in fields:
        size = len(name)
        size_bytes += size + len(value)
        if size == 7 and name == b":status":
            status = int(value)
        elif size == 14 and name == b"content-length":
            length_bytes = int(value)
        elif size == 11 and name == b"grpc-status":
            grpc_status = parse_status(value)
        elif size >= 8 and name[0] == 120 and name.startswith(_MARK):
            has_marks = True
            if name == b"x-tulle-error":
                error = value
    if size_bytes > max_head_bytes or len(fields) > max_fields_count:
        raise _too_large(fields, size_bytes)
    head = ResponseHead(b"", status, 1, framing, length_bytes, True, error, fields, grpc_status, has_marks)
    head.memory_bytes = size_bytes + _FIELD_MEMORY_BYTES * len(fields)
    return head


def size_of(trailers: Headers) -> int:
    """Tell about how much memory fields take."""
    size_bytes = _FIELD_MEMORY_BYTES * len(trailers)
    for name, value in trailers:
        size_bytes += len(name) + len(value)
    return size_bytes


def protocol(fields: Headers) -> bytes:
    """Give the :protocol of an extended CONNECT, else nothing."""
    for name, value in fields:
        if name == b":protocol":
            return value
        if not name.startswith(b":"):
            break
    return b""


def _is_grpc(content_type: bytes) -> bool:
    return content_type.startswith(_GRPC) and content_type[16:17] in (b"", b"+", b";")


def _too_large(fields: Headers, size_bytes: int) -> WireFault:
    return WireFault("head-too-large", f"{size_bytes} bytes of headers, {len(fields)} fields")


def _text(value: bytes) -> str:
    return value[:80].decode("latin-1")
