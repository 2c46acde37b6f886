"""A TLS client's first message, read and left as it is: which name it asks for, which protocols it offers. Pure.

A ClientHello is one handshake message; a client may cut it over several records, and the network anywhere. `parse`
takes all bytes so far, never raises, and tells None until the message is whole. What is no ClientHello after all, or
is larger than any that clients send, is EMPTY: the bytes pass all the same, without a name.

Sources: RFC 8446 sections 4.1.2 (ClientHello), 4.2 (extensions) and 5.1 (records); RFC 6066 section 3 (server_name: a
DNS name in ASCII, no trailing dot, no address); RFC 7301 section 3.1 (ALPN); RFC 1123 section 2.1 (names).
"""

import re
from typing import Final, NamedTuple

MAX_HELLO_BYTES: Final = 16384
"""Largest ClientHello read; a post-quantum key share makes 1.8 kB, a ticket that holds a session some more."""

MAX_RECORDS_COUNT: Final = 32
"""Records that one ClientHello may be cut into; who cuts finer wants to hide its name, and may."""

MAX_NAME_BYTES: Final = 253

_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0
_ALPN: Final = 16

_NAME: Final = re.compile(rb"(?=.*[A-Za-z_-])(?!-)[A-Za-z0-9_-]{1,63}(?:\.(?!-)[A-Za-z0-9_-]{1,63})*")
"""What may be a host's name, and no address: the label of a metric must not hold what a client made up."""


class Hello(NamedTuple):
    """What a client has said before anything is secret."""

    sni: str
    """Name that the client asks for, in lower case; "" when it names none, or none that is a host's."""
    alpn: tuple[bytes, ...]
    """Protocols that it offers, in its order."""


EMPTY: Final = Hello("", ())


def parse(data: bytes) -> Hello | None:
    """Read the ClientHello that these bytes begin with; None: it is not whole yet."""
    message = _message(data)
    if message is None:
        return None
    return _hello(message) if message else EMPTY


def _message(data: bytes) -> bytes | None:
    """Join the records; b"" when they hold no ClientHello."""
    parts = b""
    at = 0
    for _ in range(MAX_RECORDS_COUNT):
        head = data[at : at + 5]
        if (head[:1] and head[0] != _HANDSHAKE) or (head[1:2] and head[1] != 3):
            return b""
        if len(head) < 5:
            return None
        size = head[3] << 8 | head[4]
        if not size:
            return b""
        parts += data[at + 5 : at + 5 + size]
        at += 5 + size
        told = _is_told(parts)
        if told >= 0:
            return parts[4:told]
        if at > len(data):
            return None
    return b""


def _is_told(parts: bytes) -> int:
    """Tell where the message ends, once it is whole; 0 when it is none of ours, -1 when more must come."""
    if parts and parts[0] != _CLIENT_HELLO:
        return 0
    if len(parts) < 4:
        return -1
    end = 4 + (parts[1] << 16 | parts[2] << 8 | parts[3])
    if end > MAX_HELLO_BYTES:
        return 0
    return end if len(parts) >= end else -1


def _hello(message: bytes) -> Hello:
    """Read the body; what is cut short or contradicts itself names nothing."""
    at = 2 + 32  # version, random
    at += 1 + _number(message, at, 1)  # session id
    at += 2 + _number(message, at, 2)  # cipher suites
    at += 1 + _number(message, at, 1)  # compression methods
    end = min(len(message), at + 2 + _number(message, at, 2))
    at += 2
    sni = ""
    alpn: tuple[bytes, ...] = ()
    while at + 4 <= end:
        kind, size = _number(message, at, 2), _number(message, at + 2, 2)
        body = message[at + 4 : min(at + 4 + size, end)]
        at += 4 + size
        if at > end:
            break
        if kind == _SERVER_NAME:
            sni = _server_name(body)
        elif kind == _ALPN:
            alpn = _protocols(body)
    return Hello(sni, alpn)


def _server_name(body: bytes) -> str:
    """Read the list's first name; no client sends a second, and only host names are defined."""
    size = _number(body, 3, 2)
    name = body[5 : 5 + size]
    if body[2:3] != b"\x00" or len(name) != size or len(name) > MAX_NAME_BYTES or _NAME.fullmatch(name) is None:
        return ""
    return name.decode("ascii").lower()


def _protocols(body: bytes) -> tuple[bytes, ...]:
    found = []
    at = 2
    while at < len(body):
        size = body[at]
        name = body[at + 1 : at + 1 + size]
        if not size or len(name) != size:
            return ()
        found.append(name)
        at += 1 + size
    return tuple(found)


def _number(data: bytes, at: int, size: int) -> int:
    """Read a number in network order; what lies beyond the end counts as 0."""
    return int.from_bytes(data[at : at + size], "big")
