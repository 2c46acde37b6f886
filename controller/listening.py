"""The controller's listening socket. Edge; light, because the port is opened before the rest is imported.

What the controller imports takes a second on a quiet machine and five on a busy one. A startup probe that comes before
the port is open is refused, and each refusal is a Warning Event although nothing is wrong; one that comes after it
waits in the backlog until it is answered.
"""

import socket
from typing import Final

from controller.settings import Settings

SLOW_S: Final = 10.0
"""A stream that takes no byte for this long is closed: the sidecar resyncs on a new one, from what it holds."""


def listen(settings: Settings) -> socket.socket:
    """Open the listening socket: both families where the kernel has both.

    Raises:
        OSError: the port is taken, or the address is not this machine's.
    """
    address = settings.address
    is_dual = not address and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if is_dual or ":" in address else socket.AF_INET
    listener = socket.create_server((address, settings.port), family=family, backlog=1024, dualstack_ipv6=is_dual)
    # Inherited by accepted connections: a peer that takes no byte is cut by the kernel, whatever is buffered for it.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(SLOW_S * 1000))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
