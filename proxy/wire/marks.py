"""The mesh's own headers, `x-tulle-*`: taking off those that their sender may not write. Pure.

A mark is worth what its sender is (proxy.peers). Here stands how a head, or trailers, get rid of marks: all of them but
the first of each name that is kept, in whatever case and however often they came. The names that Connection lists are
gone by then (wire.head), so what is kept is what the other side will read.
"""

from typing import Final

from proxy.model import Headers, RequestHead, ResponseHead

MARK: Final = b"x-tulle-"
_LINE: Final = b"\r\n" + MARK


def keep(head: RequestHead, names: tuple[bytes, ...]) -> None:
    """Take off a request's head all marks but these."""
    if head.fields:
        head.fields = without(head.fields, names)
    else:
        head.raw = _without_lines(head.raw, names)


def keep_of_response(head: ResponseHead, names: tuple[bytes, ...]) -> None:
    """The same for a response's head."""
    if head.fields:
        head.fields = without(head.fields, names)
    else:
        head.raw = _without_lines(head.raw, names)
    head.error = head.value(b"x-tulle-error") if names else b""


def without(fields: Headers, names: tuple[bytes, ...] = ()) -> Headers:
    """The same for headers, or trailers, of HTTP/2; the very same tuple where there is nothing to take off."""
    is_marked = False
    for name, _ in fields:
        if len(name) >= 8 and name[0] == 120 and name.startswith(MARK):
            is_marked = True
    if not is_marked:
        return fields
    kept: list[tuple[bytes, bytes]] = []
    seen: list[bytes] = []
    for field in fields:
        name = field[0]
        if name.startswith(MARK):
            if name not in names or name in seen:
                continue
            seen.append(name)
        kept.append(field)
    return tuple(kept)


def _without_lines(raw: bytes, names: tuple[bytes, ...]) -> bytes:
    lower = raw.lower()
    at = lower.find(_LINE)
    if at < 0:
        return raw
    pieces: list[bytes] = []
    seen: list[bytes] = []
    start = 0
    while at >= 0:
        end = lower.find(b"\r\n", at + 2)
        name = lower[at + 2 : lower.find(b":", at + 2)]
        if name in names and name not in seen:
            seen.append(name)
        else:
            pieces.append(raw[start:at])
            start = end
        at = lower.find(_LINE, end)
    pieces.append(raw[start:])
    return b"".join(pieces)
