"""Response heads that a careless server wrote, put into the form that all clients read alike. Pure.

RFC 9112 asks this of proxies for responses alone: white space before a colon is removed (section 5.1), and a field that
goes on in another line is brought into one (section 5.2). Requests with either are refused: smuggling starts with them.
"""

import re
from typing import Final

_FOLD: Final = re.compile(rb"\r\n[ \t]+").sub
_NAME: Final = rb"(\r\n[!#$%&'*+\-.^_`|~0-9A-Za-z]+)[ \t]+"
_SPACED: Final = re.compile(_NAME + rb"(?=:)").sub
_IS_SPACED: Final = re.compile(_NAME + rb"(?::|\Z)").search

_FRAMING_LINE: Final = re.compile(rb"(?<=\r\n)(?:content-length|transfer-encoding):[^\r]*\r\n", re.IGNORECASE).sub

_FRAMING: Final = ("Content-Length", "Transfer-Encoding")
"""In llhttp's message: such a response may still have no body (RFC 9112 section 6.3, rules 1 and 2), or one whose end
wire.framing can tell."""


def flaw(complaint: str, head: bytes) -> str:
    """Tell which of the two flaws llhttp has complained of in a head, as far as it has come, as a word of its reason.

    A name with white space behind it may be one whose colon has not come yet.
    """
    if "header token" in complaint or "header field char" in complaint:
        return "control-character" if _IS_SPACED(head) is not None else ""
    is_folded = "header value" in complaint and (head.find(b"\r\n ") >= 0 or head.find(b"\r\n\t") >= 0)
    return "folded-header" if is_folded else ""


def can_repair(complaint: str, head: bytes) -> bool:
    """Tell whether what llhttp complained of in a response's head may be put right when that is whole."""
    return any(name in complaint for name in _FRAMING) or flaw(complaint, head) != ""


def repaired(head: bytes) -> bytes:
    """Give a whole head with one line for each field, and no white space before its colon."""
    start = head.find(b"\r\n") + 2  # what is folded into the status line is no field
    if head[start : start + 1] in (b" ", b"\t"):
        return head
    return _SPACED(rb"\1", _FOLD(b" ", head))


def without_framing(head: bytes) -> bytes:
    """Give a head without what it says of its body, so that llhttp judges all else."""
    return _FRAMING_LINE(b"", head)
