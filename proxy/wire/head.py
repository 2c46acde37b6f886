"""Heads: from the bytes that llhttp has found well-formed to a checked value. Pure.

llhttp validates the syntax (so each line ends with CRLF, none is folded, names are tokens, values hold no control
character); here the meaning is read: framing, connection options, what must not be passed on. Only the few headers
that mean something to a proxy are looked at; one regular expression finds them in one pass (fast: replaces a Python
callback for every header; bench case `http1`). All other bytes go on as they came, in their order and spelling.

Sources: RFC 9112 sections 2.2, 3, 6; RFC 9110 sections 7.6.1 (hop-by-hop), 7.8 (Upgrade), 9.3.6
(CONNECT), 10.1.4 (TE).
"""

import re
from typing import Final

from proxy.errors import WireFault
from proxy.model import CHUNKED, LENGTH, NO_BODY, UNTIL_CLOSE, Framing, RequestHead, ResponseHead

Fields = list[tuple[bytes, bytes]]
"""(name, value) in wire order; names as spelled."""

_REQUEST_FIELDS: Final = re.compile(
    rb"\r\n(host|connection|content-length|transfer-encoding|upgrade|keep-alive|proxy-connection|te|x-tulle-[a-z-]+)"
    rb":[ \t]*([^\r]*)",
    re.IGNORECASE,
).findall
_RESPONSE_FIELDS: Final = re.compile(
    rb"\r\n(connection|content-length|transfer-encoding|upgrade|keep-alive|proxy-connection|x-tulle-error)"
    rb":[ \t]*([^\r]*)",
    re.IGNORECASE,
).findall

_HOP_BY_HOP: Final = (b"keep-alive", b"proxy-connection")
_KEPT: Final = (b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"te", b"x-tulle-error")
"""Named in Connection or not, these are never removed by name: each is handled on its own (a client must not be able
to have the framing or the authority dropped)."""

_CHUNKING: Final = re.compile(rb"(?<=\r\n)(?:transfer-encoding|trailer):[^\r]*\r\n", re.IGNORECASE).sub

_FRAMING: Final = re.compile(rb"(?<=\r\n)(?:content-length|transfer-encoding):[^\r]*\r\n", re.IGNORECASE).sub
"""A tunnel has none, and a client that heeded it would wait (RFC 9110 section 9.3.6)."""

_AUTHORITY: Final = re.compile(rb"[^/*?#@]+").fullmatch

_ERROR: Final = re.compile(rb"(?<=\r\n)x-tulle-error:[^\r]*\r\n", re.IGNORECASE).sub

_PROBE_AGENT: Final = b"kube-probe/"
_PROBE: Final = re.compile(rb"\r\nuser-agent:[ \t]*kube-probe/", re.IGNORECASE).search
"""What a kubelet calls itself (kubernetes/pkg/probe/http); who else does gains nothing but to leave the statistics."""

_PLAIN_OPTIONS: Final = {
    value: ([value.lower()], b"\r\nConnection: " + value + b"\r\n")
    for value in (b"keep-alive", b"close", b"Keep-Alive", b"Close")
}
"""Usual values of Connection -> their options, and the whole line."""

MAX_KNOWN_LINES_COUNT: Final = 64
MAX_KNOWN_LINE_BYTES: Final = 64
_KNOWN_LINES: Final[set[bytes]] = set()
"""Status lines that were found good: servers have a few each (fast: saves an expression for each response)."""

_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search


def read_request(raw: bytes, method: bytes) -> RequestHead:
    """Read a complete request head, from its first byte to the blank line; raise WireFault."""
    line = raw[: raw.find(b"\r\n")]
    parts = line.split(b" ")
    if len(parts) != 3 or parts[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise WireFault("bad-request-line", line[:80].decode("latin-1"))
    minor = parts[2][-1] - 48
    framing: Framing = NO_BODY
    length_bytes = 0
    hosts = 0
    options: list[bytes] | None = None
    upgrade = b""
    stale = has_marks = False
    for name, value in _REQUEST_FIELDS(raw):
        size = len(name)
        if size == 4:
            hosts += 1
        elif size > 8 and name[1] == 45:  # x-tulle-...
            has_marks = True
        elif size == 14:
            framing, length_bytes = LENGTH, int(value)
        elif size == 17:
            framing = _chunked(value, minor)
        elif size == 7:
            upgrade, stale = value.strip(), True
        elif size == 10 and name[1] | 32 == 111:  # connection; not keep-alive
            options = _options(value, options)
            shorter = _without_line(raw, name, value)
            stale = stale or not shorter
            raw = shorter or raw
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
        if minor == 0 or _AUTHORITY(parts[1]) is None:
            raise WireFault("bad-request-line", "CONNECT wants an authority, and HTTP/1.1")
        framing, length_bytes, upgrade = NO_BODY, 0, b""
    if upgrade and (minor == 0 or upgrade.lower().startswith(b"h2c")):
        upgrade = b""
    if stale:
        raw = _without_hop_by_hop(raw, options or [], upgrade)
    return RequestHead(raw, method, parts[1], minor, framing, length_bytes, keep_alive, upgrade, has_marks)


def read_response(raw: bytes, status: int, method: bytes) -> ResponseHead:
    """Read a complete response head to a request of `method`; raise WireFault."""
    minor = 1 if raw.startswith(b"HTTP/1.1 ") else 0
    if minor == 0 and not raw.startswith(b"HTTP/1.0 "):
        raise WireFault("bad-response", "the status line names no HTTP/1 version")
    framing: Framing = UNTIL_CLOSE
    length_bytes = 0
    options: list[bytes] | None = None
    stale = False
    upgrade = error = b""
    for name, value in _RESPONSE_FIELDS(raw):
        size = len(name)
        if size == 14:
            framing, length_bytes = LENGTH, int(value)
        elif size == 17:
            # Without `chunked` at last the body ends with the connection (RFC 9112 section 6.3).
            framing = CHUNKED if _ends_chunked(value) else UNTIL_CLOSE
        elif size == 7:
            upgrade, stale = value.strip(), True
        elif size == 13:
            error = value
        elif size == 10 and name[1] | 32 == 111:  # connection; not keep-alive
            options = _options(value, options)
            shorter = _without_line(raw, name, value)
            stale = stale or not shorter
            raw = shorter or raw
        else:
            stale = True
    if status < 200 or status in (204, 304) or method == b"HEAD" or (method == b"CONNECT" and status < 300):
        framing, length_bytes = NO_BODY, 0
    keep_alive = minor == 1 and framing != UNTIL_CLOSE
    if options is not None:
        keep_alive = framing != UNTIL_CLOSE and b"close" not in options and (minor == 1 or b"keep-alive" in options)
    if stale:
        raw = _without_hop_by_hop(raw, options or [], upgrade if status == 101 else b"")
    if method == b"CONNECT" and 200 <= status < 300:
        raw = _FRAMING(b"", raw)
    line = raw[: raw.find(b"\r\n")]
    if line not in _KNOWN_LINES:
        _check_line(line)
    return ResponseHead(raw, status, minor, framing, length_bytes, keep_alive, error)


def _chunked(value: bytes, minor: int) -> Framing:
    if minor == 0 or not _ends_chunked(value):
        raise WireFault("bad-transfer-encoding", value[:80].decode("latin-1"))
    return CHUNKED


def _ends_chunked(value: bytes) -> bool:
    return value.rpartition(b",")[2].strip().lower() == b"chunked"


def _options(value: bytes, before: list[bytes] | None) -> list[bytes]:
    if before is None:
        plain = _PLAIN_OPTIONS.get(value)
        if plain is not None:
            return plain[0]
    return (before or []) + [option.strip().lower() for option in value.split(b",")]


def is_probe(raw: bytes) -> bool:
    """Tell a kubelet's probe from other requests."""
    # fast: the first half answers nearly every request, and `in` would try a number first
    return raw.find(_PROBE_AGENT) >= 0 and _PROBE(raw) is not None


def drop_error(head: ResponseHead) -> None:
    """Remove from a response head what only the mesh may say."""
    if head.fields:
        head.fields = tuple([field for field in head.fields if field[0] != b"x-tulle-error"])
    else:
        head.raw = _ERROR(b"", head.raw)
    head.error = b""


def without_chunking(raw: bytes) -> bytes:
    """Remove from a response head what announces chunks and trailers."""
    return _CHUNKING(b"", raw)


def _without_line(raw: bytes, name: bytes, value: bytes) -> bytes:
    """Cut out a Connection header that names no other header; nothing when the head must be built again instead."""
    options = _PLAIN_OPTIONS.get(value)
    if options is None:
        return b""
    # fast: most servers send one; building the head again costs ten times this
    line = options[1] if name == b"Connection" else b"\r\n" + name + b": " + value + b"\r\n"
    shorter = raw.replace(line, b"\r\n", 1)
    return shorter if len(shorter) < len(raw) else b""


def _check_line(line: bytes) -> None:
    """Refuse a status line that could hide something; remember the usual ones."""
    if _CONTROL(line):
        raise WireFault("bad-response", "a control character in the status line")
    if len(_KNOWN_LINES) < MAX_KNOWN_LINES_COUNT and len(line) < MAX_KNOWN_LINE_BYTES:
        _KNOWN_LINES.add(line)


def _without_hop_by_hop(raw: bytes, options: list[bytes], upgrade: bytes) -> bytes:
    """Build the head again without what concerns one connection only; put back what an upgrade needs."""
    dropped = {b"connection", b"upgrade", *_HOP_BY_HOP}
    dropped.update(option for option in options if option not in _KEPT)
    lines = raw[:-4].split(b"\r\n")
    kept = [lines[0]]
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name in dropped or (name == b"te" and value.strip().lower() != b"trailers"):
            continue
        kept.append(line)
    if upgrade:
        kept.append(b"Connection: upgrade")
        kept.append(b"Upgrade: " + upgrade)
    kept.append(b"\r\n")
    return b"\r\n".join(kept)
