"""Comparing two answers to the same request: the one that the client got, and the mirror's. Pure.

An `Answer` is fed as a response goes by and keeps no more of it than its head and a digest of its body. What belongs to
one connection or to framing is no part of the comparison, nor are the headers that the policy ignores.

Sources: RFC 9110 section 7.6.1 (hop-by-hop headers); RFC 7693 (BLAKE2).
"""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final, Literal, NamedTuple

Word = Literal["status", "header", "length", "body", "incomplete"]

DIGEST_BYTES: Final = 16
DIFFERENCES_MAX_COUNT: Final = 8
DETAIL_MAX_LENGTH: Final = 64
"""Characters of each side's value in a difference."""

_OF_THE_CONNECTION: Final = frozenset(
    (
        b"connection",
        b"content-length",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
"""Framing is compared as what it frames: the length and the digest of the body."""


class Difference(NamedTuple):
    """One thing in which two answers differ."""

    word: Word
    detail: str

    def __str__(self) -> str:
        return f"{self.word}: {self.detail}"


class Answer:
    """One response, as far as it has come."""

    __slots__ = ("_digest", "fields", "is_whole", "length_bytes", "status")

    def __init__(self) -> None:
        self.status = 0
        """0: no response has begun."""
        self.fields: list[tuple[bytes, bytes]] = []
        """(name, value) in wire order; trailers at last."""
        self.length_bytes = 0
        self.is_whole = False
        self._digest = blake2b(digest_size=DIGEST_BYTES)

    def __repr__(self) -> str:
        return f"<Answer {self.status} {self.length_bytes} bytes{'' if self.is_whole else ', incomplete'}>"

    def begin(self, status: int, fields: Iterable[tuple[bytes, bytes]]) -> None:
        """Enter the head; of HTTP/1 see `fields_of`."""
        self.status = status
        self.fields.extend(fields)

    def add(self, data: bytes) -> None:
        """Enter a part of the body."""
        self.length_bytes += len(data)
        self._digest.update(data)

    def end(self, trailers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """The response has ended as it should."""
        self.fields.extend(trailers)
        self.is_whole = True

    def digest(self) -> str:
        """Of the body so far, in hexadecimal."""
        return str(self._digest.hexdigest())


def fields_of(raw: bytes) -> list[tuple[bytes, bytes]]:
    """Take the headers out of an HTTP/1 head."""
    fields = []
    for line in raw.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            fields.append((name, value.strip(b" \t")))
    return fields


def compare(answer: Answer, copy: Answer, ignored: Iterable[str]) -> tuple[Difference, ...]:
    """Tell in what the mirror's answer differs from the client's.

    Args:
        answer: what the client got.
        copy: what the mirror gave.
        ignored: names of headers, lower case.

    Returns:
        At most DIFFERENCES_MAX_COUNT, each with the client's value first; empty when the answers are alike.
    """
    if not (answer.is_whole and copy.is_whole):
        return (Difference("incomplete", f"{_state(answer)} != {_state(copy)}"),)
    found: list[Difference] = []
    if answer.status != copy.status:
        found.append(Difference("status", f"{answer.status} != {copy.status}"))
    if answer.length_bytes != copy.length_bytes:
        found.append(Difference("length", f"{answer.length_bytes} != {copy.length_bytes} bytes"))
    elif answer.digest() != copy.digest():
        found.append(Difference("body", f"{answer.digest()} != {copy.digest()}"))
    ours, theirs = _compared(answer, ignored), _compared(copy, ignored)
    for name in sorted(ours.keys() | theirs.keys()):
        one, other = ours.get(name), theirs.get(name)
        if one != other:
            found.append(Difference("header", f"{_shown(name)}: {_values(one)} != {_values(other)}"))
    return tuple(found[:DIFFERENCES_MAX_COUNT])


def _state(answer: Answer) -> str:
    if not answer.status:
        return "no response"
    return f"{answer.status} {'whole' if answer.is_whole else 'broken off'} after {answer.length_bytes} bytes"


def _compared(answer: Answer, ignored: Iterable[str]) -> dict[bytes, list[bytes]]:
    """Give the values of each header that counts, in wire order."""
    left_out = {name.encode() for name in ignored} | _OF_THE_CONNECTION
    values: dict[bytes, list[bytes]] = {}
    for name, value in answer.fields:
        lower = name.lower()
        if lower == b"connection":
            left_out |= {option.strip().lower() for option in value.split(b",")}
        values.setdefault(lower, []).append(value)
    return {name: told for name, told in values.items() if name not in left_out and not name.startswith(b":")}


def _values(values: list[bytes] | None) -> str:
    return "absent" if values is None else _shown(b", ".join(values))


def _shown(value: bytes) -> str:
    text = value.decode("latin-1")
    return text if len(text) <= DETAIL_MAX_LENGTH else text[: DETAIL_MAX_LENGTH - 1] + "…"
