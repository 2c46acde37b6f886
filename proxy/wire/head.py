"""Heads: from the bytes that llhttp has found well-formed to a checked value. Pure.

llhttp validates the syntax (so each line ends with CRLF, none is folded, names are tokens, values hold no control
character); here the meaning is read: framing, connection options, what must not be passed on. Only the few headers
that mean something to a proxy are looked at; their first letter and the place of their colon tell them from nearly all
others (fast: a callback for every header costs ten times this, a regular expression twice; bench case `http1`).
All other bytes go on as they came, in their order and spelling.

Sources: RFC 9112 sections 2.2, 3, 6; RFC 9110 sections 7.6.1 (hop-by-hop), 7.8 (Upgrade), 9.3.6
(CONNECT), 10.1.4 (TE).
"""

import re
from typing import Final

from proxy.errors import WireFault
from proxy.model import CHUNKED, LENGTH, NO_BODY, UNTIL_CLOSE, Framing, RequestHead, ResponseHead

_CRLF: Final = b"\r\n"

_HOP_BY_HOP: Final = (b"keep-alive", b"proxy-connection")
_KEPT: Final = (b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"te", b"x-tulle-error")
"""Named in Connection or not, these are never removed by name: each is handled on its own (a client must not be able
to have the framing or the authority dropped)."""

_CHUNKING: Final = re.compile(rb"(?<=\r\n)(?:transfer-encoding|trailer):[^\r]*\r\n", re.IGNORECASE).sub

_FRAMING: Final = re.compile(rb"(?<=\r\n)(?:content-length|transfer-encoding):[^\r]*\r\n", re.IGNORECASE).sub
"""A tunnel has none, and a client that heeded it would wait (RFC 9110 section 9.3.6)."""

_AUTHORITY: Final = re.compile(rb"[^/*?#@]+").fullmatch

_MARK: Final = b"x-tulle-"

_PLAIN_OPTIONS: Final = {value: [value.lower()] for value in (b"keep-alive", b"close", b"Keep-Alive", b"Close")}
"""Usual values of Connection, which name no other header -> their options."""


def read_request(raw: bytes, lines: list[bytes], method: bytes) -> RequestHead:
    """Read a complete request head, from its first byte to the blank line, whole and in lines; raise WireFault."""
    line = lines[0]
    start, end = len(method) + 1, len(line) - 9
    minor = 1 if line.endswith(b" HTTP/1.1") else 0
    if end <= start or (minor == 0 and not line.endswith(b" HTTP/1.0")) or line.find(b" ", start, end) >= 0:
        raise WireFault("bad-request-line", line[:80].decode("latin-1"))
    target = line[start:end]
    framing: Framing = NO_BODY
    length_bytes = 0
    hosts = 0
    options: list[bytes] | None = None
    upgrade = b""
    stale = has_marks = False
    plain_at = 0  # where a Connection stands that names no other header
    for at in range(1, len(lines) - 2):
        line = lines[at]
        name = _telling(line)
        if not name:
            continue
        if name == b"host":
            hosts += 1
        elif name == b"content-length":
            framing, length_bytes = LENGTH, _length_bytes(line)
        elif name == b"transfer-encoding":
            framing = _chunked(_value(line, name), minor)
        elif name == b"connection":
            value = _value(line, name)
            plain = _PLAIN_OPTIONS.get(value) if options is None else None
            if plain is not None:
                options, plain_at = plain, at
            else:
                options, stale = _options(value, options), True
        elif name == b"upgrade":
            upgrade, stale = _value(line, name), True
        elif name.startswith(_MARK):
            has_marks = True
        else:
            stale = True
    if hosts > 1:
        raise WireFault("duplicate-host")
    keep_alive = minor == 1
    if options is not None:
        keep_alive = b"close" not in options and (minor == 1 or b"keep-alive" in options)
        if b"upgrade" not in options:
            upgrade = b""
    else:
        upgrade = b""
    if method == b"CONNECT":
        if minor == 0 or _AUTHORITY(target) is None:
            raise WireFault("bad-request-line", "CONNECT wants an authority, and HTTP/1.1")
        framing, length_bytes, upgrade = NO_BODY, 0, b""
    if upgrade and (minor == 0 or upgrade.lower().startswith(b"h2c")):
        upgrade = b""
    if stale:
        raw = _without_hop_by_hop(lines, options or [], upgrade)
    elif plain_at:
        raw = _without_line(raw, lines, plain_at)
    return RequestHead(raw, method, target, minor, framing, length_bytes, keep_alive, upgrade, has_marks)


def read_response(raw: bytes, lines: list[bytes], status: int, method: bytes) -> ResponseHead:
    """Read a complete response head to a request of `method`, whole and in lines; raise WireFault."""
    line = lines[0]
    minor = 1 if line.startswith(b"HTTP/1.1 ") else 0
    if minor == 0 and not line.startswith(b"HTTP/1.0 "):
        raise WireFault("bad-response", "the status line names no HTTP/1 version")
    for at in range(12, len(line)):  # behind the status
        if (line[at] < 32 and line[at] != 9) or line[at] == 127:
            raise WireFault("bad-response", "a control character in the status line")
    framing: Framing = UNTIL_CLOSE
    length_bytes = 0
    options: list[bytes] | None = None
    stale = False
    plain_at = 0  # where a Connection stands that names no other header
    upgrade = error = b""
    has_marks = False
    for at in range(1, len(lines) - 2):
        line = lines[at]
        name = _telling(line)
        if not name or name == b"host" or name == b"te":  # these mean nothing here
            continue
        if name == b"content-length":
            framing, length_bytes = LENGTH, _length_bytes(line)
        elif name == b"transfer-encoding":
            # Without `chunked` at last the body ends with the connection (RFC 9112 section 6.3).
            framing = CHUNKED if _ends_chunked(_value(line, name)) else UNTIL_CLOSE
        elif name == b"connection":
            value = _value(line, name)
            plain = _PLAIN_OPTIONS.get(value) if options is None else None
            if plain is not None:
                options, plain_at = plain, at
            else:
                options, stale = _options(value, options), True
        elif name == b"upgrade":
            upgrade, stale = _value(line, name), True
        elif name.startswith(_MARK):
            has_marks = True
            if name == b"x-tulle-error":
                error = _value(line, name)
        else:
            stale = True
    if status < 200 or status in (204, 304) or method == b"HEAD" or (method == b"CONNECT" and status < 300):
        framing, length_bytes = NO_BODY, 0
    keep_alive = minor == 1 and framing != UNTIL_CLOSE
    if options is not None:
        keep_alive = framing != UNTIL_CLOSE and b"close" not in options and (minor == 1 or b"keep-alive" in options)
    if stale:
        raw = _without_hop_by_hop(lines, options or [], upgrade if status == 101 else b"")
    elif plain_at:
        raw = _without_line(raw, lines, plain_at)
    if method == b"CONNECT" and 200 <= status < 300:
        raw = _FRAMING(b"", raw)
    return ResponseHead(raw, status, minor, framing, length_bytes, keep_alive, error, (), -1, has_marks)


def _telling(line: bytes) -> bytes:
    """Give the name of a header that means something to a proxy, in lower case; of any other nothing."""
    letter = line[0] | 32
    if letter == 99:  # c
        return _named(line, b"content-length") or _named(line, b"connection")
    if letter == 104:  # h
        return _named(line, b"host")
    if letter == 107:  # k
        return _named(line, b"keep-alive")
    if letter == 112:  # p
        return _named(line, b"proxy-connection")
    if letter == 116:  # t
        return _named(line, b"transfer-encoding") or _named(line, b"te")
    if letter == 117:  # u
        return _named(line, b"upgrade")
    if letter == 120 and len(line) > 8 and line[7] == 45:  # x-tulle-...
        name = line[: line.find(b":")].lower()
        return name if name.startswith(_MARK) else b""
    return b""


def _named(line: bytes, name: bytes) -> bytes:
    """Give the name if the line has it, in whatever case. Of a token's characters none but a capital has 32 to gain."""
    size = len(name)
    if len(line) <= size or line[size] != 58:
        return b""
    for at in range(size):
        if line[at] | 32 != name[at]:
            return b""
    return name


def _value(line: bytes, name: bytes) -> bytes:
    """Give the value behind a name, without the white space around it."""
    start, end = len(name) + 1, len(line)
    while start < end and (line[start] == 32 or line[start] == 9):
        start += 1
    while start < end and (line[end - 1] == 32 or line[end - 1] == 9):
        end -= 1
    return line[start:end]


def _length_bytes(line: bytes) -> int:
    """Read a content-length, of which llhttp has said that it is one number with white space around it."""
    length_bytes = 0
    for at in range(15, len(line)):
        if line[at] > 47:
            length_bytes = length_bytes * 10 + line[at] - 48
    return length_bytes


def _chunked(value: bytes, minor: int) -> Framing:
    if minor == 0 or not _ends_chunked(value):
        raise WireFault("bad-transfer-encoding", value[:80].decode("latin-1"))
    return CHUNKED


def _ends_chunked(value: bytes) -> bool:
    return value.rpartition(b",")[2].strip().lower() == b"chunked"


def _options(value: bytes, before: list[bytes] | None) -> list[bytes]:
    return (before or []) + [option.strip().lower() for option in value.split(b",")]


def without_chunking(raw: bytes) -> bytes:
    """Remove from a response head what announces chunks and trailers."""
    return _CHUNKING(b"", raw)


def _without_line(raw: bytes, lines: list[bytes], number: int) -> bytes:
    """Cut one of its lines out of a head."""
    start = 0
    for at in range(number):
        start += len(lines[at]) + 2
    return raw[:start] + raw[start + len(lines[number]) + 2 :]


def _without_hop_by_hop(lines: list[bytes], options: list[bytes], upgrade: bytes) -> bytes:
    """Build the head again without what concerns one connection only; put back what an upgrade needs."""
    dropped = {b"connection", b"upgrade", *_HOP_BY_HOP}
    dropped.update(option for option in options if option not in _KEPT)
    kept = [lines[0]]
    for line in lines[1:-2]:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name in dropped or (name == b"te" and value.strip().lower() != b"trailers"):
            continue
        kept.append(line)
    if upgrade:
        kept.append(b"Connection: upgrade")
        kept.append(b"Upgrade: " + upgrade)
    kept.append(b"\r\n")
    return _CRLF.join(kept)
