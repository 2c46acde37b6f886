"""What a client speaks, told from its first bytes. Pure.

HTTP/1 is a method token, a space, and a first line that ends with its version: `SET key 1` of another protocol has
the first two and not the third, and neither has `OPTIONS rtsp://cam/1 RTSP/1.0`. So a first line is judged when it is
complete, and what has no version is opaque, whatever its method. Until then only a registered method is waited for:
`ruok` or `0032git-upload-pack /p.git` begins none, and passes at once. A method that nobody has registered is HTTP all
the same where its first line arrives in one piece, as it nearly always does.

A TLS client is told once its ClientHello is whole (wire.hello), because its name is wanted with it; until then nobody
could have answered it.

Sources: RFC 9112 sections 2.2 (empty lines before a request) and 3 (request line), RFC 9110 section 5.6.2 (token),
IANA's registry of HTTP methods, RFC 9113 section 3.4 (preface), RFC 8446 section 5.1 (record header).
"""

import re
from typing import Final, Literal

from proxy.wire import hello

Verdict = Literal["http/1", "http/2", "tls", "opaque", "more"]

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

MAX_METHOD_BYTES: Final = 32
"""Longest method; the registered ones end at 17 (UPDATEREDIRECTREF)."""

MAX_LINE_BYTES: Final = 8192
"""A first line longer than this with a registered method before it is taken for HTTP/1 (same limit as nginx's)."""

MAX_EMPTY_BYTES: Final = 16
"""Empty lines before a request line, in bytes; some clients send one or two (RFC 9112 section 2.2)."""

UNDECIDED_BYTES: Final = MAX_EMPTY_BYTES + MAX_LINE_BYTES
"""So many bytes are always told, unless they begin a ClientHello (hello.MAX_HELLO_BYTES)."""

_METHOD: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}")
_WELL_KNOWN: Final = (b"GET ", b"POST ", b"HEAD ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"CONNECT ", b"TRACE ")

METHODS: Final = (
    b"ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT CONNECT COPY DELETE GET HEAD LABEL LINK LOCK MERGE MKACTIVITY"
    b" MKCALENDAR MKCOL MKREDIRECTREF MKWORKSPACE MOVE OPTIONS ORDERPATCH PATCH POST PROPFIND PROPPATCH PUT QUERY"
    b" REBIND REPORT SEARCH TRACE UNBIND UNCHECKOUT UNLINK UNLOCK UPDATE UPDATEREDIRECTREF VERSION-CONTROL"
    b" M-SEARCH NOTIFY PURGE SOURCE SUBSCRIBE UNSUBSCRIBE"
).split()
"""IANA's registry without `PRI`, and the six more that Node's parser knows."""

_BEGUN: Final = frozenset(method[:size] for method in METHODS for size in range(1, len(method) + 1))
_WHOLE: Final = frozenset(METHODS)


def protocol(data: bytes) -> Verdict:
    """Judge all bytes that a client has sent so far; `more` means that they do not tell yet."""
    if data.startswith((b"GET ", b"POST ")):
        end = data.find(b"\n", 0, MAX_LINE_BYTES)
        if end > 12 and data[end - 10 : end] == b" HTTP/1.1\r":
            return "http/1"  # fast: nearly all, before any expression
    if data[:1] == b"\x16":
        return _tls(data)
    if PREFACE.startswith(data[: len(PREFACE)]):
        return "http/2" if len(data) >= len(PREFACE) else "more"
    start = skip_empty_lines(data)
    if start < 0 or start > MAX_EMPTY_BYTES:
        return "opaque"
    if start == len(data) or (data[start] == 13 and start + 1 == len(data)):
        return "more"
    return _first_line(data, start)


def leaning(data: bytes) -> Verdict:
    """Judge bytes that told nothing in time: the beginning of a well-known request, or of a TLS hello, else opaque."""
    if data[:1] == b"\x16":
        return "tls" if _tls(data) == "more" else "opaque"
    text = data.lstrip(b"\r\n")
    if not text:
        return "opaque"  # an empty line alone asks for nothing over HTTP, and for a prompt elsewhere
    if any(text.startswith(known[: len(text)]) for known in _WELL_KNOWN):
        return "http/1"
    return "http/1" if b" " in text[: MAX_METHOD_BYTES + 1] and b" HTTP/1" in text else "opaque"


def serves_http2(data: bytes) -> bool:
    """Tell whether a server's first bytes begin with HTTP/2's SETTINGS: such servers need not wait for the preface."""
    is_settings = data[:1] == b"\x00" and data[3:9] == b"\x04\x00\x00\x00\x00\x00"
    return is_settings and (data[1] << 8 | data[2]) % 6 == 0


def skip_empty_lines(data: bytes) -> int:
    """Give the place behind the empty lines (CRLF or LF) that the bytes begin with; -1: a CR that ends no line.

    A CR that is the last byte is left for later. Beyond MAX_EMPTY_BYTES no more are looked for: they are too many.
    """
    at = 0
    size = len(data)
    while at < size and at <= MAX_EMPTY_BYTES:
        if data[at] == 10:
            at += 1
        elif data[at] != 13 or at + 1 == size:
            break
        elif data[at + 1] != 10:
            return -1
        else:
            at += 2
    return at


def _tls(data: bytes) -> Verdict:
    if data[1:2] not in (b"", b"\x03") or data[2:3] > b"\x04":
        return "opaque"
    return "more" if hello.parse(data) is None else "tls"


def _first_line(data: bytes, start: int) -> Verdict:
    """Judge the line at `start`, by its first MAX_LINE_BYTES alone: so every way to cut it is told alike."""
    found = _METHOD.match(data, start)
    if found is None:
        return "opaque"
    method = found.group()
    space = found.end()
    if space < len(data) and data[space] != 32:
        return "opaque"
    end = data.find(b"\n", space, start + MAX_LINE_BYTES)
    if end >= 0:
        line = data[space:end].rstrip(b"\r ")
        is_http = len(line) > 8 and line[-9:-1] == b" HTTP/1." and line[-1:].isdigit()
        return "http/1" if is_http else "opaque"
    if space == len(data):
        return "more" if method in _BEGUN else "opaque"
    if method not in _WHOLE:
        return "opaque"
    return "http/1" if len(data) >= start + MAX_LINE_BYTES else "more"
