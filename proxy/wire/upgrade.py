"""Upgrade: which protocols a client asks for that may be asked onwards, and what a server may agree to. Pure.

h2c is never asked onwards: HTTP/2 inside a tunnel would pass all that the mesh reads in requests (known as h2c
smuggling). A server that switches to what nobody asked for is not obeyed.

Sources: RFC 9110 sections 7.8 (Upgrade), 15.2.2 (101), 15.5.22 (426); RFC 9113 appendix B (h2c); RFC 2817 section 3.3,
whose servers answer `TLS/1.0, HTTP/1.1`.
"""

import re
from typing import Final

_PROTOCOL: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+)(?:/[!#$%&'*+\-.^_`|~0-9A-Za-z]+)?").fullmatch
_REFUSED: Final = b"h2c"


def onwards(value: bytes) -> bytes:
    """Give of an Upgrade field what may be asked of the server; nothing if that is nothing."""
    members = [member.strip(b" \t") for member in value.split(b",")]
    return b", ".join([member for member in members if _name(member) not in (b"", _REFUSED)])


def agrees(asked: bytes, answered: bytes) -> bool:
    """Tell whether a 101 with this Upgrade field answers what was asked onwards."""
    wanted = {_name(member.strip(b" \t")) for member in asked.split(b",")} - {b"", _REFUSED}
    given = [_name(member.strip(b" \t")) for member in answered.split(b",")]
    return given[0] in wanted and wanted.issuperset(name for name in given if name not in (b"", b"http"))


def _name(member: bytes) -> bytes:
    """Give a protocol's name without its version, in lower case; nothing where it is none."""
    match = _PROTOCOL(member)
    return match[1].lower() if match is not None else b""
