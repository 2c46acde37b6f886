"""Who speaks: what is known of a client by its address, and what is believed of it. Turn.

Until connections carry an identity of their own, a client's address is all that tells who it is. Discovery knows the
pod that has the address, the pod's workload (a rate limit for each client counts by `namespace/service account`), and
whether a sidecar stands before it. It is asked when that first matters: when a client sends one of the mesh's own
headers, meets a limit of its own, or asks what a probe asks. Until the answer is there the client is a stranger.

What follows from it for the mesh's own headers, proxy.trust says.

The table is bounded. When it is full, the client that was silent for longest makes room, those that are no pods first.
"""

import socket
from collections.abc import Callable, Sequence
from typing import Final

from contract.discovery import Destination
from contract.metrics import OUTBOUND
from proxy.model import APPLICATION, NODE, SIDECAR, STRANGER, Address, Direction, PeerKind, parse_address, plain_ip
from proxy.nearby import Nearby
from proxy.seams import Clock

PORT: Final = 1
"""Discovery is asked for an address and port; which port does not matter here, so it is one that nobody calls."""

MAX_COUNT: Final = 512
"""Clients that are remembered and asked for (a kilobyte each, here and in the controller)."""


class Client:
    """What is known of one address."""

    __slots__ = ("identity", "ip", "is_asked", "is_forgotten", "is_pod", "kind", "revision", "used_s")

    def __init__(self, ip: str, kind: PeerKind, now_s: float) -> None:
        self.ip = ip
        self.kind = kind
        self.identity = ip
        """`namespace/service account` of the pod at the address; the address where there is none, or not yet."""
        self.is_pod = False
        self.is_asked = False
        """Whether discovery is asked for it."""
        self.is_forgotten = False
        """Nothing that is told of the address reaches this any more."""
        self.revision = ""
        self.used_s = now_s


class Visitor:
    """Who has connected, for one session."""

    __slots__ = ("_client", "_clock", "_direction", "_peers", "_sock")

    def __init__(self, peers: "Peers | None", sock: socket.socket, direction: Direction, clock: Clock) -> None:
        self._peers = peers
        self._sock = sock
        self._direction = direction
        self._clock = clock
        self._client: Client | None = None

    @property
    def ip(self) -> str:
        """The client's address; empty when it has gone."""
        try:
            return plain_ip(self._sock.getpeername()[0])
        except OSError:
            return ""

    @property
    def kind(self) -> PeerKind:
        """Who it is, as far as it is known by now; asking makes it known soon."""
        if self._direction == OUTBOUND:
            return APPLICATION
        client = self._client
        peers = self._peers
        if client is None or client.is_forgotten:
            ip = self.ip if peers is not None else ""
            if peers is None or not ip:
                return STRANGER
            self._client = client = peers.meet(ip)
        client.used_s = self._clock.now_s
        return client.kind


class Peers:
    """All clients that it matters to know. Satisfies discovery.Asker."""

    __slots__ = ("_clients", "_clock", "_nearby", "is_connected", "on_wanted")

    def __init__(self, clock: Clock, nearby: Nearby) -> None:
        self.is_connected = False
        self.on_wanted: Callable[[], None] = _nothing
        self._clock = clock
        self._nearby = nearby
        self._clients: dict[str, Client] = {}

    def __len__(self) -> int:
        return len(self._clients)

    def meet(self, ip: str) -> Client:
        """Find what is known of an address, and ask for what is not; a session keeps it."""
        client = self._clients.get(ip)
        now_s = self._clock.now_s
        if client is None:
            kind = NODE if self._nearby.is_node(ip) else STRANGER
            client = Client(ip, kind, now_s)
            if len(self._clients) >= MAX_COUNT:
                self._forget_oldest()
            self._clients[ip] = client
            if kind != NODE:  # its address is no pod's
                client.is_asked = True
                self.on_wanted()
        client.used_s = now_s
        return client

    def identify(self, ip: str) -> str:
        """Give what a rate limit for each client counts by."""
        return self.meet(ip).identity

    def wanted(self) -> dict[str, str]:
        """What discovery shall tell: target -> revision already held."""
        clients = self._clients.items()
        return {str(Address(ip, PORT)): client.revision for ip, client in clients if client.is_asked}

    def apply(self, destinations: Sequence[Destination]) -> list[str]:
        """Take a message of discovery; what is wrong with it is told by others, who hear the same."""
        for destination in destinations:
            if not destination.target.endswith(f":{PORT}"):
                continue
            try:
                ip = parse_address(destination.target).ip
            except ValueError:
                continue
            client = self._clients.get(ip)
            if client is not None:
                self._tell(client, destination)
        return []

    def _tell(self, client: Client, destination: Destination) -> None:
        client.revision = destination.revision
        client.identity = client.ip
        client.is_pod = destination.kind == "pod" and bool(destination.endpoints)
        if client.is_pod:
            told = destination.endpoints[0]
            client.identity = f"{told.namespace}/{told.service_account or 'default'}"
            client.kind = SIDECAR if told.meshed else STRANGER
        elif destination.kind == "unknown" and self._nearby.is_near(client.ip):
            client.kind = NODE  # on the pod's own network, and no pod: another address of the node
        else:
            client.kind = STRANGER

    def disconnect(self) -> None:
        """The controller is gone: what is known stays."""
        self.is_connected = False

    def sweep(self, now_s: float, idle_s: float) -> None:
        """Forget the clients that have been silent for `idle_s`."""
        for client in [client for client in self._clients.values() if client.used_s <= now_s - idle_s]:
            self._forget(client)

    def _forget_oldest(self) -> None:
        clients = self._clients.values()
        self._forget(min(clients, key=lambda client: (client.is_pod, client.used_s)))

    def _forget(self, client: Client) -> None:
        client.is_forgotten = True
        del self._clients[client.ip]


def _nothing() -> None:
    """Nobody listens yet."""
