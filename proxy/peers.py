"""Which workload a client's address belongs to. Turn.

A rate limit for each client counts by `namespace/service account`. Until connections carry an identity of their own,
the client's address tells it: discovery knows the pod that has the address. Addresses are asked for when a limit first
meets them; until the answer is there, and where there is no such pod, the address itself is the client.
"""

from collections.abc import Callable, Sequence
from typing import Final

from contract.discovery import Destination
from proxy.model import Address, parse_address
from proxy.seams import Clock

PORT: Final = 1
"""Discovery is asked for an address and port; which port does not matter here, so it is one that nobody calls."""

MAX_COUNT: Final = 512
"""Addresses that are asked for; others stand for themselves until some of these were silent for long."""


class _Peer:
    """What is known of one address."""

    __slots__ = ("identity", "revision", "used_s")

    def __init__(self, ip: str, now_s: float) -> None:
        self.identity = ip
        self.revision = ""
        self.used_s = now_s


class Peers:
    """All clients' addresses that limits ask for. Satisfies discovery.Asker."""

    __slots__ = ("_clock", "_peers", "is_connected", "on_wanted")

    def __init__(self, clock: Clock) -> None:
        self.is_connected = False
        self.on_wanted: Callable[[], None] = _nothing
        self._clock = clock
        self._peers: dict[str, _Peer] = {}

    def __len__(self) -> int:
        return len(self._peers)

    def identify(self, ip: str) -> str:
        """Give `namespace/service account` of the pod at an address; the address where there is none, or not yet."""
        peer = self._peers.get(ip)
        now_s = self._clock.now_s
        if peer is not None:
            peer.used_s = now_s
            return peer.identity
        if len(self._peers) < MAX_COUNT:
            self._peers[ip] = _Peer(ip, now_s)
            self.on_wanted()
        return ip

    def wanted(self) -> dict[str, str]:
        """What discovery shall tell: target -> revision already held."""
        return {str(Address(ip, PORT)): peer.revision for ip, peer in self._peers.items()}

    def apply(self, destinations: Sequence[Destination]) -> list[str]:
        """Take a message of discovery; what is wrong with it is told by others, who hear the same."""
        for destination in destinations:
            if not destination.target.endswith(f":{PORT}"):
                continue
            try:
                ip = parse_address(destination.target).ip
            except ValueError:
                continue
            peer = self._peers.get(ip)
            if peer is not None:
                peer.revision = destination.revision
                peer.identity = ip
                if destination.kind == "pod" and destination.endpoints:
                    told = destination.endpoints[0]
                    peer.identity = f"{told.namespace}/{told.service_account or 'default'}"
        return []

    def disconnect(self) -> None:
        """The controller is gone: what is known stays."""
        self.is_connected = False

    def sweep(self, now_s: float, idle_s: float) -> None:
        """Forget the addresses that have been silent for `idle_s`."""
        for ip in [ip for ip, peer in self._peers.items() if peer.used_s <= now_s - idle_s]:
            del self._peers[ip]


def _nothing() -> None:
    """Nobody listens yet."""
