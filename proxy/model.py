"""Values that pass between the modules of the sidecar. Pure."""

from ipaddress import ip_address
from typing import Final, Literal, NamedTuple

import msgspec

Direction = Literal["inbound", "outbound"]


class Address(NamedTuple):
    """A TCP address; a plain (ip, port) tuple to the socket module. IPv4-mapped addresses are IPv4 here."""

    ip: str
    port: int

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


def plain_ip(ip: str) -> str:
    """Give an IPv4-mapped IPv6 address its IPv4 form, drop a zone (`fe80::1%eth0`) and leave all others alone."""
    if ip.startswith("::ffff:") and "." in ip:
        return ip[7:]
    return ip.partition("%")[0]


def parse_address(text: str) -> Address:
    """Parse `10.0.0.7:80` or `[fd00::7]:80`; raise ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r} is not ip:port")
    if host.startswith("[") and host.endswith("]"):
        return Address(ip_address(host[1:-1]).compressed, int(port))
    if ":" in host:
        raise ValueError(f"{text!r}: an IPv6 address stands in brackets")
    return Address(ip_address(host).compressed, int(port))


Framing = int
"""How a message's body ends: one of the four below."""
NO_BODY: Final = 0
LENGTH: Final = 1
"""After `length_bytes`."""
CHUNKED: Final = 2
"""With the last chunk."""
UNTIL_CLOSE: Final = 3
"""With the connection."""


class RequestHead(msgspec.Struct, gc=False):
    """A request's head, checked. `raw` is what goes to the server: hop-by-hop headers removed, all else as it came."""

    raw: bytes
    method: bytes
    target: bytes
    minor: int
    """HTTP/1.0 or HTTP/1.1."""
    framing: Framing
    length_bytes: int
    keep_alive: bool
    """Whether the client lets its connection live on after this exchange."""
    upgrade: bytes
    """The Upgrade header when the client asks to leave HTTP/1 (never h2c), else empty."""


class ResponseHead(msgspec.Struct, gc=False):
    """A response's head, checked. `raw` is what goes to the client, without the closing blank line."""

    raw: bytes
    status: int
    minor: int
    framing: Framing
    length_bytes: int
    keep_alive: bool
    """Whether the server lets its connection live on after this exchange."""
    error: bytes
    """x-tulle-error of another sidecar, else empty."""
