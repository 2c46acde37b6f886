"""How a message's body ends, decided from all that says so, and the fields that say so, written from that. Pure.

Whoever reads a message after us, the server or the client, must find its end where we did: that is what keeps one
message from hiding in another (request smuggling, response splitting). So a framing field is never copied, unless it
is the only one and already what would be written: that is most messages, and wire.head lets them pass. All others come
here: what they say is read anew, all of it, and one field, or none, takes the place of what they said.

Requests get no benefit of the doubt. Responses are repaired where RFC 9112 says how; where a response contradicted
itself its connection is not used again (`is_sound`), since its server may have meant something else.

Sources: RFC 9112 sections 6.1 to 6.3 (the rules' numbers below are those of 6.3), 7.1.2, 7.4; RFC 9110 section 8.6.
"""

import re
from typing import Final, NamedTuple

from proxy.errors import WireFault
from proxy.model import CHUNKED, LENGTH, NO_BODY, UNTIL_CLOSE, Framing

MAX_LENGTH_BYTES: Final = 2**63 - 1
"""Above this servers disagree: many keep lengths in a signed number of 64 bits."""

_LENGTH: Final = b"content-length"
_ENCODING: Final = b"transfer-encoding"
_CHUNKED: Final = b"chunked"
_CODING: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+(?:[ \t]*;[^\"]*)?").fullmatch
"""A coding with its parameters; a quoted one could hide a comma."""
_FORBIDDEN: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search


class Decided(NamedTuple):
    """What was decided about one message."""

    framing: Framing
    length_bytes: int
    lines: list[bytes]
    """The head's lines, with the framing fields that say just this."""
    is_sound: bool
    """Nothing in the head contradicted anything else in it."""


def of_request(lines: list[bytes], minor: int, method: bytes) -> Decided:
    """Decide about a request whose head is cut into these lines; raise WireFault."""
    lengths = _values(lines, _LENGTH)
    codings = _codings(lines)
    if codings is not None:
        told = b", ".join(codings)[:80].decode("latin-1")
        if lengths:
            raise WireFault("content-length-and-transfer-encoding")
        if minor == 0 or codings[-1:] != [_CHUNKED]:
            raise WireFault("bad-transfer-encoding", told)
        if len(codings) > 1:
            raise WireFault("unknown-transfer-coding", told)
        if method == b"CONNECT":
            raise WireFault("connect-with-body", told)
        return Decided(CHUNKED, 0, _written(lines, [b"Transfer-Encoding: chunked"]), True)
    if not lengths:
        return Decided(NO_BODY, 0, lines, True)
    length_bytes = _number(lengths[0])
    if len(lengths) > 1 or length_bytes < 0:
        raise WireFault("bad-content-length", b", ".join(lengths)[:80].decode("latin-1"))
    if method == b"CONNECT":
        if length_bytes:
            raise WireFault("connect-with-body", f"{length_bytes} bytes")
        return Decided(NO_BODY, 0, _written(lines, []), True)
    return Decided(LENGTH, length_bytes, _written(lines, [b"Content-Length: %d" % length_bytes]), True)


def of_response(lines: list[bytes], minor: int, status: int, method: bytes, knows_chunks: bool) -> Decided:
    """Decide about a response to a request of `method`; raise WireFault.

    Where its chunks must be taken off (its own version, or the client's, knows none) the lines say nothing of them.
    """
    lengths = [part.strip(b" \t") for value in _values(lines, _LENGTH) for part in value.split(b",")]
    codings = _codings(lines)
    length_bytes = _number(lengths[0]) if lengths and len(set(lengths)) == 1 else -1
    is_sound = not (lengths and (length_bytes < 0 or codings is not None))
    if status < 200 or status == 204 or (method == b"CONNECT" and status < 300):
        # These have none (rules 1, 2), and must not speak of one (RFC 9110 section 8.6, RFC 9112 section 6.1).
        return Decided(NO_BODY, 0, _written(lines, []), is_sound and codings is None and length_bytes <= 0)
    fields: list[bytes] = []
    is_clear = codings is None or (len(codings) > 0 and all(_CODING(coding) is not None for coding in codings))
    if codings is not None:
        codings = [coding for coding in codings if coding != b"identity"]  # no coding at all (RFC 2616 section 3.6)
        if codings and is_clear and minor == 1 and knows_chunks:
            fields = [b"Transfer-Encoding: " + b", ".join(codings)]
    elif length_bytes >= 0:
        fields = [b"Content-Length: %d" % length_bytes]
    if method == b"HEAD" or status == 304:  # rule 1: the fields describe the body that another request would get
        return Decided(NO_BODY, 0, _written(lines, fields), is_sound)
    if codings is None:
        if length_bytes < 0:  # rule 5
            raise WireFault("bad-content-length", b", ".join(lengths)[:80].decode("latin-1"))
        return Decided(LENGTH, length_bytes, _written(lines, fields), is_sound)
    if not is_clear:
        raise WireFault("bad-transfer-encoding", b", ".join(codings)[:80].decode("latin-1") or "empty")
    return _coded(lines, codings, fields, is_sound)


def _coded(lines: list[bytes], codings: list[bytes], fields: list[bytes], is_sound: bool) -> Decided:
    """Decide about a response by its transfer codings (rules 3 and 4)."""
    count = codings.count(_CHUNKED)
    if count > 1 or (len(codings) > 1 and not fields):
        raise WireFault("bad-transfer-encoding", b", ".join(codings)[:80].decode("latin-1"))
    if count == 0 or codings[-1] != _CHUNKED:
        return Decided(UNTIL_CLOSE, 0, _written(lines, fields), is_sound)
    written = _written(lines, fields)
    if not fields:
        written = [line for line in written if line[:8].lower() != b"trailer:"]
    return Decided(CHUNKED, 0, written, is_sound)


def _values(lines: list[bytes], name: bytes) -> list[bytes]:
    values = []
    for line in lines[1:]:
        found, colon, value = line.partition(b":")
        if colon and found.lower() == name:
            if _FORBIDDEN(value) is not None:  # llhttp has not seen what a repaired head says of its body
                raise WireFault("control-character", value[:80].decode("latin-1"))
            values.append(value.strip(b" \t"))
    return values


def _codings(lines: list[bytes]) -> list[bytes] | None:
    """List the transfer codings in lower case, without empty members; None where no field names any."""
    values = _values(lines, _ENCODING)
    if not values:
        return None
    members = [member.strip(b" \t").lower() for value in values for member in value.split(b",")]
    return [member for member in members if member]


def _number(text: bytes) -> int:
    """Read a length; -1 where it is none."""
    digits = text.lstrip(b"0") or text[:1]
    if not text.isdigit() or len(digits) > 19 or int(digits) > MAX_LENGTH_BYTES:
        return -1
    return int(digits)


def _written(lines: list[bytes], fields: list[bytes]) -> list[bytes]:
    """Put these framing fields in the place of all that are there."""
    kept = lines[:1]
    is_written = False
    for line in lines[1:]:
        name = line[: line.find(b":")].lower() if line else b""
        if name != _LENGTH and name != _ENCODING:
            kept.append(line)
        elif not is_written:
            is_written = True
            kept += fields
    return kept
