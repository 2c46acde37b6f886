"""Lets captured connections that are bound to an interface reach the sidecar. Edge.

A socket may be bound to one interface (SO_BINDTODEVICE, `curl --interface eth0`). Captured, its connection goes to the
loopback address, and there is no way to that through `eth0`: the SYN leaves by the default route, and nobody answers.
So each interface gets a local route to the loopback address. Its metric is worse than that of the kernel's own, so no
other connection takes it; and packets that come in from outside for a loopback address are dropped as before, because
the kernel does that ahead of any route.

Sources: rtnetlink(7), netdevice(7); linux/rtnetlink.h.
"""

import fcntl
import os
import socket
import struct
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

from init.rules import Family

METRIC: Final = 2102
"""With the interface's number added: routes of one metric would replace each other. Any but 0 would do."""

_LOOPBACK: Final[dict[Family, tuple[int, str]]] = {4: (socket.AF_INET, "127.0.0.1"), 6: (socket.AF_INET6, "::1")}

_NEW, _DELETE = 24, 25
"""RTM_NEWROUTE, RTM_DELROUTE."""
_REQUEST, _ACK, _REPLACE, _CREATE = 0x1, 0x4, 0x100, 0x400
_TABLE_LOCAL, _PROTOCOL_STATIC, _SCOPE_HOST, _TYPE_LOCAL = 255, 4, 254, 2
_DESTINATION, _DEVICE, _PRIORITY = 1, 4, 6
"""RTA_DST, RTA_OIF, RTA_PRIORITY."""
_SIOCGIFFLAGS = 0x8913
_IFF_UP, _IFF_LOOPBACK = 0x1, 0x8


def add(families: Iterable[Family]) -> list[str]:
    """Add the routes, also where they are there already; return what could not be done, a line each."""
    faults = []
    for name in interfaces():
        for family in families:
            try:
                _request(_NEW, _CREATE | _REPLACE, family, socket.if_nametoindex(name))
            except OSError as error:
                faults.append(
                    f"no IPv{family} route to the sidecar through {name} ({error.strerror}): connections that are "
                    "bound to that interface will time out"
                )
    return faults


def remove(families: Iterable[Family]) -> None:
    """Take the routes away; there need not be any."""
    for name in interfaces():
        for family in families:
            try:
                _request(_DELETE, 0, family, socket.if_nametoindex(name))
            except OSError:
                continue  # it was not there, or the interface is not any more


def interfaces() -> list[str]:
    """Name the interfaces that are up, but for loopback."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, struct.pack("16sH22x", name.encode(), 0))
            except OSError:
                continue  # gone meanwhile
            flags = struct.unpack_from("16xH", answer)[0]
            if flags & _IFF_UP and not flags & _IFF_LOOPBACK:
                found.append(name)
    return found


def _request(kind: int, flags: int, family: Family, device: int) -> None:
    """Ask the kernel, and wait for its word. Raises OSError."""
    code, address = _LOOPBACK[family]
    packed = ip_address(address).packed
    route = struct.pack(
        "BBBBBBBBI", code, len(packed) * 8, 0, 0, _TABLE_LOCAL, _PROTOCOL_STATIC, _SCOPE_HOST, _TYPE_LOCAL, 0
    )
    attributes = (
        _attribute(_DESTINATION, packed)
        + _attribute(_DEVICE, struct.pack("I", device))
        + _attribute(_PRIORITY, struct.pack("I", METRIC + device))
    )
    body = route + attributes
    head = struct.pack("IHHII", 16 + len(body), kind, _REQUEST | _ACK | flags, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(5.0)
        sock.bind((0, 0))
        sock.send(head + body)
        number = -struct.unpack_from("i", sock.recv(4096), 16)[0]
    if number:
        raise OSError(number, os.strerror(number))


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("HH", 4 + len(value), kind) + value
