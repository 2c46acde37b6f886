"""Credentials that belong to a connection, not to a request: NTLM, and Negotiate where it chooses NTLM. Pure.

A server that speaks these schemes takes all that follows on a connection for its client's: the connection may serve no
other (HTTP/1; HTTP/2 knows no such credentials).

Sources: RFC 4559 section 6 (Negotiate authenticates connections; a proxy must not share them); MS-NTHT section 2.1.
"""

import re
from typing import Final

_NAMED: Final = re.compile(rb"(?:(?:proxy-)?(?:authorization|authenticate)|www-authenticate):", re.IGNORECASE).match
_SCHEME: Final = re.compile(rb"[:,][ \t]*(?:ntlm|negotiate)(?=[ \t,]|$)", re.IGNORECASE).search


def of_connection(lines: list[bytes]) -> bool:
    """Tell whether a head, cut into its lines, gives such credentials or asks for them."""
    # fast: a letter and the place of the colon tell nearly every line, the next letter a Bearer token (bench `http1`)
    for at in range(1, len(lines) - 2):
        line = lines[at]
        letter = line[0] | 32
        if letter == 97:  # authorization
            may_be = len(line) > 15 and line[13] == 58 and line[15] | 32 != 98
        elif letter == 119:  # www-authenticate
            may_be = len(line) > 16 and line[16] == 58
        elif letter == 112:  # proxy-authenticate, proxy-authorization
            may_be = len(line) > 19 and (line[18] == 58 or line[19] == 58)
        else:
            continue
        if may_be and _is_telling(line):
            return True
    return False


def _is_telling(line: bytes) -> bool:
    return _NAMED(line) is not None and _SCHEME(line) is not None
