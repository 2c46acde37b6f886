"""Credentials that belong to a connection, not to a request: NTLM, and Negotiate where it chooses NTLM. Pure.

A server that speaks these schemes takes all that follows on a connection for its client's: the connection may serve no
other (HTTP/1; HTTP/2 knows no such credentials).

Sources: RFC 4559 section 6 (Negotiate authenticates connections; a proxy must not share them); MS-NTHT section 2.1.
"""

import re
from typing import Final

_NAMED: Final = re.compile(rb"(?:(?:proxy-)?(?:authorization|authenticate)|www-authenticate):", re.IGNORECASE).match
_SCHEME: Final = re.compile(rb"[:,][ \t]*(?:ntlm|negotiate)(?=[ \t,]|$)", re.IGNORECASE).search


def may_be(line: bytes) -> bool:
    """Tell of a header's line whether `of_connection` must look at it.

    Fast: the place of the colon tells nearly every line, and the next letter a Bearer token (bench case `http1`).
    """
    letter = line[0] | 32
    if letter == 97:  # authorization
        return len(line) > 15 and line[13] == 58 and line[15] | 32 != 98
    if letter == 119:  # www-authenticate
        return len(line) > 16 and line[16] == 58
    return len(line) > 19 and (line[18] == 58 or line[19] == 58)  # proxy-authenticate, proxy-authorization


def of_connection(line: bytes) -> bool:
    """Tell whether a header's line gives such credentials or asks for them."""
    return _NAMED(line) is not None and _SCHEME(line) is not None
