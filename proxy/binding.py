"""Listening sockets. Edge; light, because the admin port is opened before the rest of the sidecar is imported."""

import socket
from typing import Final

from proxy.model import Address

ANY_HOSTS: Final = ("0.0.0.0", "::")


def listen(hosts: tuple[str, ...], port: int, backlog_count: int, shared: bool = False) -> list[socket.socket]:
    """Listen on those of the addresses that the machine has."""
    return [sock for host in hosts if (sock := bind(host, port, backlog_count, shared)) is not None]


def bind(host: str, port: int, backlog_count: int, shared: bool = False) -> socket.socket | None:
    """Listen; None where the machine has no IPv6. Raises OSError when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        if family == socket.AF_INET6:
            return None
        raise
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(backlog_count)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        if family == socket.AF_INET6 and error.errno in (97, 99):  # EAFNOSUPPORT, EADDRNOTAVAIL: no IPv6 here
            return None
        raise OSError(error.errno, f"cannot listen on {Address(host, port)}: {error.strerror}") from None
    return sock
