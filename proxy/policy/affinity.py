"""Session affinity: a cookie that names the endpoint that answered first. Pure.

The name is a short digest of the endpoint's address: it survives scaling, restarts of sidecars and a move to another
sidecar, and it does not tell a browser the addresses inside the cluster at a glance (it is no secret either: who knows
the cluster's network can try all addresses).

Sources: RFC 6265 sections 4.1 (Set-Cookie) and 4.2 (Cookie).
"""

import re
from collections.abc import Callable
from hashlib import blake2b
from typing import Final

from contract.policy import Affinity

MARK_BYTES: Final = 6
"""Of the digest; 10,000 endpoints of one service share a name with a chance of one in five million."""


def mark(name: str) -> bytes:
    """Name an endpoint to a client, by its own name: twelve hexadecimal digits."""
    return blake2b(name.encode(), digest_size=MARK_BYTES, person=b"tulle-affinity").hexdigest().encode()


def cookie_pattern(name: str) -> Callable[[bytes], "re.Match[bytes] | None"]:
    """Prepare to find a cookie's value in a Cookie header; the pairs of several headers may be joined with `; `."""
    return re.compile(rb"(?:^|;)[ \t]*" + re.escape(name.encode()) + rb'="?([^;"]*)').search


def read_cookie(search: Callable[[bytes], "re.Match[bytes] | None"], header: bytes) -> bytes:
    """Find a cookie's value; empty when it is not there."""
    if not header:
        return b""
    found = search(header)
    return found[1].strip() if found is not None else b""


def set_cookie(affinity: Affinity, name: bytes) -> bytes:
    """Write the value of a Set-Cookie header that binds a client to the endpoint of this name (see `mark`)."""
    parts = [affinity.cookie.encode() + b"=" + name, b"Path=" + affinity.path.encode()]
    if affinity.ttl_s > 0.0:
        parts.append(b"Max-Age=%d" % max(1, int(affinity.ttl_s)))
    parts.append(b"HttpOnly")
    return b"; ".join(parts)
