"""What a client speaks, told from its first bytes. Pure.

HTTP/1 is a method token, a space, and a first line that ends with its version: `SET key 1` of another protocol has
the first two and not the third. A TLS client is told once its ClientHello is whole (wire.hello), because its name is
wanted with it; until then nobody could have answered it.

Sources: RFC 9112 section 3 (request line), RFC 9110 section 5.6.2 (token), RFC 9113 section 3.4 (preface), RFC 8446
section 5.1 (record header).
"""

import re
from typing import Final, Literal

from proxy.wire import hello

Verdict = Literal["http/1", "http/2", "tls", "opaque", "more"]

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

MAX_METHOD_BYTES: Final = 32
"""Longest method; the registered ones end at 17 (UPDATEREDIRECTREF)."""

MAX_LINE_BYTES: Final = 8192
"""A first line longer than this with a method before it is taken for HTTP/1 (same limit as nginx's)."""

_METHOD: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}")
_WELL_KNOWN: Final = (b"GET ", b"POST ", b"HEAD ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"CONNECT ", b"TRACE ")


def protocol(data: bytes) -> Verdict:
    """Judge all bytes that a client has sent so far; `more` means that they do not tell yet."""
    if data.startswith((b"GET ", b"POST ")):
        return "http/1"  # fast: the two common cases before any expression
    if data[:1] == b"\x16":
        return _tls(data)
    if PREFACE.startswith(data[: len(PREFACE)]):
        return "http/2" if len(data) >= len(PREFACE) else "more"
    text = data.lstrip(b"\r\n") if data[:1] == b"\r" else data
    method = _METHOD.match(text)
    if method is None:
        return "opaque" if text else "more"
    end = method.end()
    if end == len(text):
        return "more" if end < MAX_METHOD_BYTES else "opaque"
    if text[end : end + 1] != b" ":
        return "opaque"
    return _first_line(text)


def leaning(data: bytes) -> Verdict:
    """Judge bytes that told nothing in time: the beginning of a well-known request, or of a TLS hello, else opaque."""
    if data[:1] == b"\x16":
        return "tls" if _tls(data) == "more" else "opaque"
    text = data.lstrip(b"\r\n")
    if any(text.startswith(known[: len(text)]) for known in _WELL_KNOWN):
        return "http/1"
    return "http/1" if b" " in text[: MAX_METHOD_BYTES + 1] and b" HTTP/1" in text else "opaque"


def serves_http2(data: bytes) -> bool:
    """Tell whether a server's first bytes begin with HTTP/2's SETTINGS: such servers need not wait for the preface."""
    is_settings = data[:1] == b"\x00" and data[3:9] == b"\x04\x00\x00\x00\x00\x00"
    return is_settings and (data[1] << 8 | data[2]) % 6 == 0


def _tls(data: bytes) -> Verdict:
    if data[1:2] not in (b"", b"\x03") or data[2:3] > b"\x04":
        return "opaque"
    return "more" if hello.parse(data) is None else "tls"


def _first_line(text: bytes) -> Verdict:
    end = text.find(b"\n")
    if end < 0:
        return "http/1" if text.startswith(_WELL_KNOWN) or len(text) > MAX_LINE_BYTES else "more"
    line = text[:end].rstrip(b"\r ")
    return "http/1" if text.startswith(_WELL_KNOWN) or line[-8:-1] == b"HTTP/1." else "opaque"
