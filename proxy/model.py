"""Values that pass between the modules of the sidecar. Pure."""

from ipaddress import ip_address
from typing import Final, Literal, NamedTuple

Direction = Literal["inbound", "outbound"]

PeerKind = int
"""Who speaks on a connection that a sidecar has accepted: one of the five below. It says what is believed of the mesh's
own headers (contract.headers, proxy.peers)."""
STRANGER: Final = 0
"""Anybody without a sidecar, and who is not known yet."""
NODE: Final = 1
"""The pod's own node: its kubelet, pods on its network, what it relays from outside under its own address."""
KUBELET: Final = 2
"""The node, asking what a probe of the pod's spec asks."""
SIDECAR: Final = 3
APPLICATION: Final = 4
"""The sidecar's own."""


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


class RequestHead:
    """A request's head, checked: in the form of its protocol, which is the form that goes to the server.

    Attributes:
        raw: HTTP/1: the head without its hop-by-hop headers, all else as it came; else empty.
        fields: HTTP/2: all headers as they came; else empty.
        target: the request line's, or `:path`.
        minor: HTTP/1.0 or HTTP/1.1.
        framing: how the body ends; HTTP/2 has NO_BODY or UNTIL_CLOSE (of the stream).
        keep_alive: HTTP/1: whether the client lets its connection live on after this exchange.
        upgrade: HTTP/1: the Upgrade header when the client asks to leave HTTP/1 (without h2c), else empty.
        has_marks: whether the mesh's own headers (contract.headers), or a caller's deadline, are among the headers.
        is_grpc: HTTP/2 with a content-type of gRPC.
        authority: whom the request is for, in normal form (wire.authority); empty where it does not say.
        memory_bytes: HTTP/2: about what it takes in memory.
        is_personal: HTTP/1: it authenticates its connection, which must serve nobody else from now on.
    """

    __slots__ = (
        "authority",
        "fields",
        "framing",
        "has_marks",
        "is_grpc",
        "is_personal",
        "keep_alive",
        "length_bytes",
        "memory_bytes",
        "method",
        "minor",
        "raw",
        "target",
        "upgrade",
    )

    def __init__(
        self,
        raw: bytes,
        method: bytes,
        target: bytes,
        minor: int,
        framing: Framing,
        length_bytes: int,
        keep_alive: bool,
        upgrade: bytes,
        has_marks: bool = False,
        fields: Headers = (),
        is_grpc: bool = False,
        authority: bytes = b"",
    ) -> None:
        self.raw = raw
        self.method = method
        self.target = target
        self.minor = minor
        self.framing = framing
        self.length_bytes = length_bytes
        self.keep_alive = keep_alive
        self.upgrade = upgrade
        self.has_marks = has_marks
        self.fields = fields
        self.is_grpc = is_grpc
        self.authority = authority
        self.is_personal = False
        self.memory_bytes = 0

    def value(self, name: bytes) -> bytes:
        """Find a header by its lower-case name; the first one's value, or nothing; of cookies all crumbs."""
        if not self.fields:
            return _line(self.raw, name)
        if name == b"cookie":  # HTTP/2 may carry each pair in a field of its own (RFC 9113 section 8.2.3)
            return b"; ".join(value for found, value in self.fields if found == name)
        return field_of(self.fields, name)

    def with_value(self, name: bytes, value: bytes) -> "RequestHead":
        """Copy the head with one more header, or another value of one that is there."""
        raw, fields = self.raw, self.fields
        if fields:
            if self.has_marks:
                fields = tuple([field for field in fields if field[0] != name])
            fields += ((name, value),)
        else:
            start, end = _span(raw, name) if self.has_marks else (0, 0)
            raw = b"".join((raw[: start or -2], name, b": ", value, b"\r\n", raw[end:] if end else b"\r\n"))
        head = RequestHead(
            raw,
            self.method,
            self.target,
            self.minor,
            self.framing,
            self.length_bytes,
            self.keep_alive,
            self.upgrade,
            True,
            fields,
            self.is_grpc,
            self.authority,
        )
        head.is_personal = self.is_personal
        return head


class ResponseHead:
    """A response's head, checked: in the form of its protocol, which is the form that goes to the client.

    Attributes:
        raw: HTTP/1: the head without its hop-by-hop headers, all else as it came; else empty.
        fields: HTTP/2: all headers as they came; else empty.
        keep_alive: HTTP/1: whether the server lets its connection live on after this exchange.
        error: x-tulle-error of another sidecar, else empty.
        grpc_status: of a gRPC response that is nothing but a head; -1 when the head tells none.
        has_marks: whether the mesh's own headers are among the headers.
        upgrade: HTTP/1: the Upgrade header of a 101, else empty.
        is_reframed: HTTP/1: its framing fields are not those that came, or that llhttp has seen.
        is_unchunked: HTTP/1: it came in chunks, and goes on without them until the connection ends.
        is_personal: HTTP/1: it asks for credentials that the connection keeps (wire.credentials).
        memory_bytes: HTTP/2: about what it takes in memory.
    """

    __slots__ = (
        "error",
        "fields",
        "framing",
        "grpc_status",
        "has_marks",
        "is_personal",
        "is_reframed",
        "is_unchunked",
        "keep_alive",
        "length_bytes",
        "memory_bytes",
        "minor",
        "raw",
        "status",
        "upgrade",
    )

    def __init__(
        self,
        raw: bytes,
        status: int,
        minor: int,
        framing: Framing,
        length_bytes: int,
        keep_alive: bool,
        error: bytes,
        fields: Headers = (),
        grpc_status: int = -1,
        has_marks: bool = False,
    ) -> None:
        self.raw = raw
        self.status = status
        self.minor = minor
        self.framing = framing
        self.length_bytes = length_bytes
        self.keep_alive = keep_alive
        self.error = error
        self.fields = fields
        self.grpc_status = grpc_status
        self.has_marks = has_marks
        self.upgrade = b""
        self.is_personal = False
        self.is_reframed = False
        self.is_unchunked = False
        self.memory_bytes = 0

    def value(self, name: bytes) -> bytes:
        """Find a header by its lower-case name; the first one's value, or nothing."""
        return field_of(self.fields, name) if self.fields else _line(self.raw, name)

    def pairs(self) -> Headers:
        """List all headers as they came, without what is a pseudo-header of HTTP/2."""
        if self.fields:
            return tuple(field for field in self.fields if not field[0].startswith(b":"))
        lines = [line.partition(b":") for line in self.raw.split(b"\r\n")[1:] if line]
        return tuple((name, value.strip(b" \t")) for name, _, value in lines)

    def add(self, name: bytes, value: bytes) -> None:
        """Add a header."""
        if self.fields:
            self.fields = (*self.fields, (name, value))
        else:
            self.raw = self.raw[:-2] + name + b": " + value + b"\r\n\r\n"


def field_of(fields: Headers, name: bytes) -> bytes:
    """Find a header of HTTP/2 by its lower-case name; the first one's value, or nothing."""
    for found, value in fields:
        if found == name:
            return value
    return b""


def _line(raw: bytes, name: bytes) -> bytes:
    start, end = _span(raw, name)
    return raw[start + len(name) + 1 : end].strip(b" \t\r\n") if end else b""


def _span(raw: bytes, name: bytes) -> tuple[int, int]:
    """Find a header's line: where it begins, and where the next one does; 0, 0 when there is none."""
    start = raw.lower().find(b"\r\n" + name + b":")
    if start < 0:
        return 0, 0
    end = raw.find(b"\r\n", start + 2)
    return start + 2, end + 2 if end >= 0 else len(raw)
