"""Who sends a request, and what one address may ask of the controller. Pure; time is an argument.

Sidecars do not authenticate yet. What is known of a sender is the address that its connection comes from: a pod's own
address cannot be taken by another (a connection needs answers), and the controller knows every pod's. So a pod's word
is taken from its own address only (docs/adr/0020).

A new pod may speak before the controller has heard of its address, which the kubelet tells about a second after the
first containers run. Such a sender is unknown, not foreign; all unknown ones share one guest's bounds.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from typing import Final, Literal

from controller.cluster import Cluster
from controller.objects import FINISHED, Key
from controller.problems import Refusal, unavailable

Standing = Literal["own", "unknown", "foreign"]

IN_FLIGHT_COUNT: Final = 8
"""Requests of one address that are read and answered at once; a sidecar makes one or two."""
WORK_RATIO: Final = 0.05
"""Share of a processor that one address gets for good."""
WORK_BURST_S: Final = 1.0
"""Work that an address may be ahead of its share."""
BODIES_BYTES: Final = 16 << 20
"""Bodies of all requests that are held at once."""
GUESTS_COUNT: Final = 8192
"""Addresses that are accounted for one by one."""


def sender_ip(host: str | None) -> str:
    """The address of a connection's other end, as pods' addresses are written; "" when there is none.

    A socket for both families shows IPv4 clients as `::ffff:10.0.0.1`.
    """
    try:
        found = ip_address((host or "").partition("%")[0])
    except ValueError:
        return ""
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return str(mapped or found)


def judge(cluster: Cluster, claimed: Key, ip: str) -> Standing:
    """Say whether a request that speaks for a pod comes from it."""
    pod = cluster.pods.get(claimed)
    if pod is None or not (pod.ips or pod.host_network):
        return "unknown" if cluster.pod_at(ip) is None else "foreign"
    # An address of a node does not belong to a pod; pods on the node's network are never meshed.
    is_own = ip in pod.ips and not pod.host_network and pod.phase not in FINISHED
    return "own" if is_own else "foreign"


def foreign(claimed: Key, ip: str) -> Refusal:
    name = f"{claimed.namespace[:80]}/{claimed.name[:80]}"
    return Refusal(
        403,
        "foreign-sender",
        "Foreign sender",
        f"The request speaks for pod {name} and comes from {ip}, which is not that pod's address. Where the cluster "
        "rewrites the addresses of pods on their way to Services, set controller.verifySenders to false.",
    )


def unknown(ip: str) -> Refusal:
    return unavailable("unknown-sender", "Unknown sender", f"{ip} is not the address of a pod known here (yet).")


@dataclass(slots=True)
class Guest:
    """One address, or all unknown ones together."""

    in_flight_count: int = 0
    debt_s: float = 0.0
    """Work beyond its share, until `as_of_s`."""
    as_of_s: float = 0.0

    def settle(self, now_s: float) -> None:
        self.debt_s = max(0.0, self.debt_s - (now_s - self.as_of_s) * WORK_RATIO)
        self.as_of_s = now_s


@dataclass(slots=True, eq=False)
class Door:
    """Lets requests in within the bounds above."""

    guests: dict[str, Guest] = field(default_factory=dict)
    held_bytes: int = 0

    @contextmanager
    def enter(self, ip: str, now_s: float) -> Iterator[Guest]:
        """Hold a place for a request of an address; "" stands for all unknown ones.

        Raises:
            Refusal: 503, the address has too many requests in flight or has asked for too much work.
        """
        guest = self._guest(ip, now_s)
        guest.settle(now_s)
        who = f"Requests from {ip}" if ip else "Requests from addresses that are not known pods'"
        if guest.in_flight_count >= IN_FLIGHT_COUNT:
            raise unavailable("busy-sender", "Too many requests", f"{who}: {IN_FLIGHT_COUNT} are in work already.")
        if guest.debt_s >= WORK_BURST_S:
            raise unavailable("busy-sender", "Too much work", f"{who} have cost too much work; wait some seconds.")
        guest.in_flight_count += 1
        try:
            yield guest
        finally:
            guest.in_flight_count -= 1

    def hold(self, size_bytes: int) -> None:
        """Account for a piece of a body; `release` gives it back.

        Raises:
            Refusal: 503, there is no room for it now.
        """
        if self.held_bytes + size_bytes > BODIES_BYTES:
            raise unavailable("no-room", "No room", f"The bodies in work are {BODIES_BYTES} bytes large already.")
        self.held_bytes += size_bytes

    def release(self, size_bytes: int) -> None:
        self.held_bytes -= size_bytes

    def _guest(self, ip: str, now_s: float) -> Guest:
        found = self.guests.get(ip)
        if found is None and len(self.guests) >= GUESTS_COUNT:
            self._forget_idle(now_s)
            ip = ip if len(self.guests) < GUESTS_COUNT else ""
            found = self.guests.get(ip)
        if found is None:
            found = self.guests[ip] = Guest(as_of_s=now_s)
        return found

    def _forget_idle(self, now_s: float) -> None:
        for ip, guest in list(self.guests.items()):
            guest.settle(now_s)
            if not guest.in_flight_count and not guest.debt_s:
                del self.guests[ip]
