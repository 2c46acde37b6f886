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


Header = tuple[bytes, bytes]
"""(name, value) of HTTP/2, names in lower case; pseudo-headers first."""

Headers = tuple[Header, ...]


class RequestHead(msgspec.Struct, gc=False):
    """A request's head, checked: in the form of its protocol, which is the form that goes to the server."""

    raw: bytes
    """HTTP/1: the head without its hop-by-hop headers, all else as it came; else empty."""
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
    fields: Headers = ()
    """HTTP/2: all headers as they came; else empty."""
    is_grpc: bool = False
    """HTTP/2 with a content-type of gRPC."""

    @property
    def is_http2(self) -> bool:
        return bool(self.fields)

    def value(self, name: bytes) -> bytes:
        """Find a header by its lower-case name; the first one's value, or nothing."""
        return _field(self.fields, name) if self.fields else _line(self.raw, name)


class ResponseHead(msgspec.Struct, gc=False):
    """A response's head, checked: in the form of its protocol, which is the form that goes to the client."""

    raw: bytes
    """HTTP/1: the head without its hop-by-hop headers and without the closing blank line; else empty."""
    status: int
    minor: int
    framing: Framing
    length_bytes: int
    keep_alive: bool
    """Whether the server lets its connection live on after this exchange."""
    error: bytes
    """x-tulle-error of another sidecar, else empty."""
    fields: Headers = ()
    """HTTP/2: all headers as they came; else empty."""
    grpc_status: int = -1
    """Of a gRPC response that is nothing but a head; -1 when the head tells none."""

    def value(self, name: bytes) -> bytes:
        """Find a header by its lower-case name; the first one's value, or nothing."""
        return _field(self.fields, name) if self.fields else _line(self.raw, name)


def _field(fields: Headers, name: bytes) -> bytes:
    for found, value in fields:
        if found == name:
            return value
    return b""


def _line(raw: bytes, name: bytes) -> bytes:
    start = raw.lower().find(b"\r\n" + name + b":")
    if start < 0:
        return b""
    start += len(name) + 3
    end = raw.find(b"\r\n", start)
    return raw[start : end if end >= 0 else len(raw)].strip(b" \t")
