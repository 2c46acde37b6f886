"""The authority of a request, host and port, in the one form in which two of them can be compared. Pure.

HTTP/1 names it in Host, or in a target of absolute form; HTTP/2 in `:authority`, or in Host. All of them are judged
here, and only here. What goes to the server keeps the client's spelling; what decides (routes, authorization) sees the
normal form: lower case, no dot at the end, no port that the scheme implies, addresses of IPv6 in their shortest form,
percent-encoded letters and digits decoded.

Sources: RFC 9110 sections 4.2 (http and https URIs), 7.2 (Host); RFC 9112 section 3.2; RFC 9113 section 8.3.1; RFC 3986
sections 3.2 (authority) and 6.2 (comparison).
"""

import re
from ipaddress import AddressValueError, IPv6Address
from typing import Final

from proxy.errors import WireFault

HTTP_PORT: Final = 80
HTTPS_PORT: Final = 443

_PARTS: Final = re.compile(
    rb"(\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})+)"  # IP literal or registered name
    rb"(?::([0-9]*))?"
).fullmatch
_ENCODED: Final = re.compile(rb"%([0-9A-Fa-f]{2})").sub
_UNRESERVED: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")
_SCHEME: Final = re.compile(rb"([A-Za-z][A-Za-z0-9+.\-]*)://([^/?#]*)").match


def normal_form(value: bytes, default_port: int = HTTP_PORT) -> bytes:
    """Give the normal form of `host` or `host:port`, nothing for nothing; raise WireFault for all else."""
    size = len(value)
    at = 0
    while at < size:  # fast: nearly all are in normal form already
        byte = value[at]
        if not (97 <= byte <= 122 or 48 <= byte <= 57 or byte == 45 or byte == 46 or byte == 95):
            break
        at += 1
    if at == size:
        if size == 0 or value[size - 1] != 46:
            return value
    elif value[at] == 58 and 0 < at < size - 1 and value[at - 1] != 46 and value[at + 1] != 48:
        port = 0
        for digit_at in range(at + 1, min(size, at + 7)):
            byte = value[digit_at]
            if not 48 <= byte <= 57:
                break
            port = port * 10 + byte - 48
        else:
            if port <= 65535 and port != default_port:
                return value
    return _normalised(value, default_port)


def normal_list(value: bytes, default_port: int = HTTP_PORT) -> bytes:
    """The same for HTTP/2: gRPC clients that were given several addresses (`ipv4:a:1,b:1`) name all of them."""
    try:
        return normal_form(value, default_port)
    except WireFault:
        if value.find(b",") < 0:
            raise
    return b",".join([normal_form(part, default_port) for part in value.split(b",")])


def has_port(value: bytes) -> bool:
    """Tell whether an authority that has a normal form names a port."""
    return value[value.rfind(b":") + 1 :].isdigit() and value.rfind(b":") > value.rfind(b"]")


def of_target(target: bytes) -> tuple[bytes, int]:
    """Give the authority that a target of absolute form names, as it is spelled, and its scheme's port (0: none)."""
    match = _SCHEME(target)
    if match is None:
        raise WireFault("bad-request-line", _told(target))
    scheme = match[1].lower()
    if not match[2]:
        raise WireFault("bad-host", f"no host in {_told(target)}")
    return match[2], HTTP_PORT if scheme == b"http" else HTTPS_PORT if scheme == b"https" else 0


def _normalised(value: bytes, default_port: int) -> bytes:
    match = _PARTS(value)
    if match is None:
        raise WireFault("bad-host", _told(value))
    host, port = match[1], match[2] or b""
    if host.startswith(b"["):
        try:
            host = b"[%s]" % IPv6Address(host[1:-1].decode()).compressed.encode()
        except AddressValueError:
            raise WireFault("bad-host", _told(value)) from None
    else:
        host = _ENCODED(_decoded, host).lower().rstrip(b".")
    if not host:
        raise WireFault("bad-host", _told(value))
    port = port.lstrip(b"0") if port.strip(b"0") else port[:1]
    if not port or (len(port) < 6 and int(port) == default_port):
        return host
    if len(port) > 5 or int(port) > 65535:
        raise WireFault("bad-host", f"{_told(value)}: a port is at most 65535")
    return host + b":" + port


def _decoded(match: re.Match[bytes]) -> bytes:
    byte = int(match[1], 16)
    return bytes((byte,)) if byte in _UNRESERVED else match[0]


def _told(value: bytes) -> str:
    return value[:80].decode("latin-1")
