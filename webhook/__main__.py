"""The webhook's command: reads the environment, opens the port, then brings in what serves it. Edge; light on purpose.

Exit codes: 0 stopped by SIGTERM or SIGINT; 1 it cannot run here; 2 the environment is wrong.

What the webhook imports takes a second on a quiet machine and five on a busy one. A startup probe that comes before the
port is open is refused, and each refusal is a Warning Event although nothing is wrong; one that comes after it waits in
the backlog until it is answered.
"""

import os
import socket
import sys

from webhook.environment import EnvironmentFault, read_environment


def main() -> int:
    """Run until told to stop; return the exit code."""
    try:
        settings, serving = read_environment(os.environ)
        listener = listen(serving.host, serving.port)
    except EnvironmentFault as error:
        print("\n".join(f"tulle-webhook: {line}" for line in str(error).splitlines()), file=sys.stderr)
        return 2
    except OSError as error:
        print(f"tulle-webhook: cannot listen on port {serving.port}: {error.strerror}", file=sys.stderr)
        return 1
    from webhook.wiring import run

    return run(settings, serving, listener)


def listen(host: str, port: int) -> socket.socket:
    """Open the listening socket.

    Raises:
        OSError: the port is taken, or the address is not this machine's.
    """
    is_dual = not host and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if is_dual or ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=1024, dualstack_ipv6=is_dual)
    # Accepted connections inherit it. asyncio sets it only where the socket names its protocol, which this one does
    # not; an answer of two writes would then wait 40 ms for the API server's delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


if __name__ == "__main__":
    sys.exit(main())
