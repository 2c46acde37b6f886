"""Heads: from the bytes that llhttp has found well-formed to a checked value. Pure.

llhttp validates the syntax (so each line ends with CRLF, none is folded, names are tokens, values hold no control
character); here the meaning is read: framing, connection options, what must not be passed on. Only the few headers
that mean something to a proxy are looked at; their first letter and the place of their colon tell them from nearly all
others (fast: a callback for every header costs ten times this, a regular expression twice; bench case `http1`).
All other bytes go on as they came, in their order and spelling; framing that is not in its usual form goes through
wire.framing, and what names the authority through wire.authority.

Sources: RFC 9112 sections 2.2, 3, 6; RFC 9110 sections 7.6.1 (hop-by-hop), 7.8 (Upgrade), 9.3.6
(CONNECT), 10.1.4 (TE), 15.5.22 (426).
"""

from typing import Final

from proxy.errors import WireFault
from proxy.model import CHUNKED, LENGTH, NO_BODY, UNTIL_CLOSE, Framing, RequestHead, ResponseHead
from proxy.wire import authority, credentials, framing, upgrade
from proxy.wire.options import judged, taken_off
from proxy.wire.options import read as read_options

_CRLF: Final = b"\r\n"

_HOP_BY_HOP: Final = (b"keep-alive", b"proxy-connection")

_MARK: Final = b"x-tulle-"

_CREDENTIALS: Final = b"authorization"
"""Stands for any line that wire.credentials must look at."""

_PLAIN_OPTIONS: Final = {value: [value.lower()] for value in (b"keep-alive", b"close", b"Keep-Alive", b"Close")}
"""Usual values of Connection, which name no other header -> their options."""


def read_request(raw: bytes, lines: list[bytes], method: bytes, before: bytes = b"") -> RequestHead:
    """Read a complete request head, from its first byte to the blank line, whole and in lines; raise WireFault.

    `before`: the normal form of an earlier Host, which this one most probably repeats (fast: bench case `http1`).
    """
    target, minor = _request_line(lines[0], method)
    body: Framing = NO_BODY
    length_bytes = host_at = 0
    options: list[bytes] | None = None
    asked = b""
    stale = has_marks = is_odd = is_personal = False
    plain_at = 0  # where a Connection stands that names no other header
    for at in range(1, len(lines) - 2):
        line = lines[at]
        name = _telling(line)
        if not name:
            continue
        if name == b"host":
            if host_at:
                raise WireFault("duplicate-host")
            host_at = at
        elif name == b"content-length":
            length_bytes = _usual_length(line)
            is_odd = is_odd or body != NO_BODY or length_bytes < 0
            body = LENGTH
        elif name == b"transfer-encoding":
            is_odd = is_odd or body != NO_BODY or minor == 0 or not _is_usual_encoding(line)
            body = CHUNKED
        elif name == b"connection":
            value = _value(line, name)
            plain = _PLAIN_OPTIONS.get(value) if options is None else None
            if plain is not None:
                options, plain_at = plain, at
            else:
                options, stale = judged(read_options(value, options)), True
        elif name == b"upgrade":
            asked, stale = _joined(asked, _value(line, name)), True
        elif name.startswith(_MARK):
            has_marks = True
        elif name == _CREDENTIALS:
            is_personal = is_personal or credentials.of_connection(line)
        else:
            stale = True
    if host_at and target[0] == 47 and method != b"CONNECT":
        told, fixed = _value(lines[host_at], b"host"), lines
        host = before if told == before else authority.normal_form(told)
    else:
        host, fixed = _odd_authority(lines, host_at, method, target, minor)
    if is_odd or (body != NO_BODY and method == b"CONNECT"):
        body, length_bytes, fixed, _ = framing.of_request(fixed, minor, method)
    if asked:
        asked = upgrade.onwards(asked) if _may_upgrade(method, minor, options) else b""
    if stale or fixed is not lines:
        raw = _without_hop_by_hop(fixed, options or [], asked)
    elif plain_at:
        raw = _without_line(raw, lines, plain_at)
    keep_alive = minor == 1 if options is None else _is_kept(options, minor)
    head = RequestHead(raw, method, target, minor, body, length_bytes, keep_alive, asked, has_marks, authority=host)
    head.is_personal = is_personal
    return head


def read_response(
    raw: bytes, lines: list[bytes], status: int, method: bytes, knows_chunks: bool = True
) -> ResponseHead:
    """Read a response head as `read_request` does; where its version or client knows none, its chunks are taken off."""
    minor = _version_of(lines[0])
    body: Framing = UNTIL_CLOSE
    length_bytes = 0
    options: list[bytes] | None = None
    stale = is_odd = has_marks = is_personal = False
    plain_at = 0  # where a Connection stands that names no other header
    upgraded = error = b""
    for at in range(1, len(lines) - 2):
        line = lines[at]
        name = _telling(line)
        if not name or name == b"host" or name == b"te":  # these mean nothing here
            continue
        if name == b"content-length":
            length_bytes = _usual_length(line)
            is_odd = is_odd or body != UNTIL_CLOSE or length_bytes < 0
            body = LENGTH
        elif name == b"transfer-encoding":
            is_odd = is_odd or body != UNTIL_CLOSE or minor == 0 or not knows_chunks or not _is_usual_encoding(line)
            body = CHUNKED
        elif name == b"connection":
            value = _value(line, name)
            plain = _PLAIN_OPTIONS.get(value) if options is None else None
            if plain is not None:
                options, plain_at = plain, at
            else:
                options, stale = read_options(value, options), True
        elif name == b"upgrade":
            upgraded, stale = _joined(upgraded, _value(line, name)), True
        elif name.startswith(_MARK):
            has_marks = True
            if name == b"x-tulle-error":
                error = _value(line, name)
        elif name == _CREDENTIALS:
            is_personal = is_personal or credentials.of_connection(line)
        else:
            stale = True
    is_silent = status < 200 or status == 204 or (method == b"CONNECT" and status < 300)
    is_sound, fixed = True, lines
    if is_odd or (is_silent and body != UNTIL_CLOSE):
        body, length_bytes, fixed, is_sound = framing.of_response(lines, minor, status, method, knows_chunks)
    elif is_silent or status == 304 or method == b"HEAD":
        body, length_bytes = NO_BODY, 0
    is_unchunked = body == CHUNKED and (minor == 0 or not knows_chunks)
    if is_unchunked:
        body = UNTIL_CLOSE
    is_kept = is_sound and body != UNTIL_CLOSE and (minor == 1 if options is None else _is_kept(options, minor))
    if stale or fixed is not lines:
        raw = _without_hop_by_hop(fixed, options or [], upgraded if status == 101 or status == 426 else b"")
    elif plain_at:
        raw = _without_line(raw, lines, plain_at)
    head = ResponseHead(raw, status, minor, body, length_bytes, is_kept, error, (), -1, has_marks)
    if fixed is not lines:
        head.is_reframed, head.is_unchunked = True, is_unchunked
    head.upgrade = upgraded if status == 101 else b""
    head.is_personal = is_personal
    return head


def _request_line(line: bytes, method: bytes) -> tuple[bytes, int]:
    """Check the first line of a request; give its target and minor version."""
    start, end = len(method) + 1, len(line) - 9
    minor = 1 if line.endswith(b" HTTP/1.1") else 0
    if end <= start or (minor == 0 and not line.endswith(b" HTTP/1.0")) or line.find(b" ", start, end) >= 0:
        raise WireFault("bad-request-line", line[:80].decode("latin-1"))
    return line[start:end], minor


def _version_of(line: bytes) -> int:
    """Check a status line; give the minor version."""
    minor = 1 if line.startswith(b"HTTP/1.1 ") else 0
    if minor == 0 and not line.startswith(b"HTTP/1.0 "):
        raise WireFault("bad-response", "the status line names no HTTP/1 version")
    for at in range(12, len(line)):  # behind the status
        if (line[at] < 32 and line[at] != 9) or line[at] == 127:
            raise WireFault("bad-response", "a control character in the status line")
    return minor


def _odd_authority(
    lines: list[bytes], host_at: int, method: bytes, target: bytes, minor: int
) -> tuple[bytes, list[bytes]]:
    """Find the authority of a request without Host, or whose target is no path; give it, and the lines as it has them.

    Where the target names it, Host says the same afterwards: RFC 9112 section 3.2.2.
    """
    told = _value(lines[host_at], b"host") if host_at else b""
    host = authority.normal_form(told)
    if not host_at and minor == 1:
        raise WireFault("bad-host", "HTTP/1.1 wants a Host header")
    if method == b"CONNECT":
        if minor == 0 or not authority.has_port(target):
            raise WireFault("bad-request-line", "CONNECT wants host:port, and HTTP/1.1")
        named, default_port = target, 0
    elif target[0] == 47 or target == b"*":
        return host, lines
    else:
        named, default_port = authority.of_target(target)
    host = authority.normal_form(named, default_port)
    if told == named:
        return host, lines
    fixed = lines.copy()
    if host_at:
        fixed[host_at] = b"Host: " + named
    else:
        fixed.insert(1, b"Host: " + named)
    return host, fixed


def _may_upgrade(method: bytes, minor: int, options: list[bytes] | None) -> bool:
    return minor == 1 and options is not None and b"upgrade" in options and method != b"CONNECT"


def _is_kept(options: list[bytes], minor: int) -> bool:
    """Tell whether these options of Connection let it live on."""
    return b"close" not in options and (minor == 1 or b"keep-alive" in options)


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
        return _named(line, b"proxy-connection") or (_CREDENTIALS if credentials.may_be(line) else b"")
    if letter == 116:  # t
        return _named(line, b"transfer-encoding") or _named(line, b"te")
    if letter == 117:  # u
        return _named(line, b"upgrade")
    if letter == 97 or letter == 119:  # a, w
        return _CREDENTIALS if credentials.may_be(line) else b""
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


def _usual_length(line: bytes) -> int:
    """Read a content-length as nearly everyone writes it; -1 where wire.framing must look at it."""
    size = len(line)
    at = 16 if size > 15 and line[15] == 32 else 15
    if not 0 < size - at < 19 or (line[at] == 48 and size - at > 1):
        return -1
    length_bytes = 0
    while at < size:
        if not 48 <= line[at] <= 57:
            return -1
        length_bytes = length_bytes * 10 + line[at] - 48
        at += 1
    return length_bytes


def _is_usual_encoding(line: bytes) -> bool:
    return line[17:] == b": chunked" or line[17:] == b":chunked"


def _joined(before: bytes, value: bytes) -> bytes:
    """Append the value of a list that goes on in another field."""
    return before + b", " + value if before else value


def _without_line(raw: bytes, lines: list[bytes], number: int) -> bytes:
    """Cut one of its lines out of a head."""
    start = 0
    for at in range(number):
        start += len(lines[at]) + 2
    return raw[:start] + raw[start + len(lines[number]) + 2 :]


def _without_hop_by_hop(lines: list[bytes], options: list[bytes], upgrade: bytes) -> bytes:
    """Build the head again without what concerns one connection only; put back what an upgrade needs."""
    dropped = {b"connection", b"upgrade", *_HOP_BY_HOP}
    dropped.update(taken_off(options))
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
