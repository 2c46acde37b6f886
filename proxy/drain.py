"""What happens after SIGTERM. Waits.

Kubernetes sends SIGTERM while other pods may still open connections to this one, and (for a plain sidecar) at the same
moment to the application, which may still call others. So the sidecar

1. says that it is not ready, and goes on serving: new connections too, in both directions; each answer now closes
   its client's connection, and unused kept-alive connections are closed after `drain_idle_s`;
2. waits until the application has gone (nothing else listens in the pod's network namespace) and there was no
   connection at all for `drain_quiet_s`: a native sidecar, whose application is gone already, gets there soon; or
   until `drain_timeout_s` is over;
3. takes in what waits in the backlogs, closes the listeners, lets what is in flight end, cuts what outlives the
   limit.
"""

from collections.abc import Callable, Sequence
from typing import Final

import trio

from proxy.listener import Listener
from proxy.parts import Parts

POLL_S: Final = 0.05

LISTEN: Final = "0A"
"""State of a listening socket in /proc/net/tcp (TCP_LISTEN of net/tcp_states.h)."""

AppListens = Callable[[frozenset[int]], bool]
"""Whether anything but these ports, the sidecar's own, is listened to."""


def kernel_app_listens(own_ports: frozenset[int]) -> bool:
    """Ask the kernel for the listening sockets of the pod: its containers share one network namespace.

    Source: proc(5), /proc/net/tcp: the second column is the local address, the fourth the state.
    """
    for table in ("/proc/self/net/tcp", "/proc/self/net/tcp6"):
        try:
            with open(table) as file:
                rows = [line.split() for line in file.readlines()[1:]]
        except OSError:
            continue  # no IPv6
        if any(row[3] == LISTEN and int(row[1].rpartition(":")[2], 16) not in own_ports for row in rows):
            return True
    return False


async def drain(parts: Parts, listeners: Sequence[Listener], app_listens: AppListens) -> int:
    """Drain; return how many sessions had to be cut."""
    config = parts.config
    parts.is_draining = True
    with trio.move_on_after(config.drain_timeout_s):
        await _wait_quiet(parts, config.drain_quiet_s, app_listens)
    for listener in listeners:
        parts.pump.enter(listener.close)
    with trio.move_on_after(config.drain_quiet_s):
        await _wait_quiet(parts, 0.0, lambda _own: False)
    left = list(parts.sessions)
    for session in left:
        parts.pump.enter(session.abort, "draining")
    return len(left)


async def _wait_quiet(parts: Parts, quiet_s: float, app_listens: AppListens) -> None:
    config = parts.config
    own_ports = frozenset((config.outbound_port, config.inbound_port, config.admin_port))
    quiet_since_s: float | None = None
    while True:
        now_s = trio.current_time()
        if parts.sessions or app_listens(own_ports):
            quiet_since_s = None
        elif quiet_since_s is None:
            quiet_since_s = now_s
        elif now_s - quiet_since_s >= quiet_s:
            return
        await trio.sleep(POLL_S)
