"""Which addresses are the pod's own node, as the kubelet's packets show it. Pure; `read` is made of files at the edge.

A kubelet's packets come from an address of the node. Which one depends on the pods' network: the node's own (the
downward API tells it), the address of the bridge that is the pods' gateway, or another one on the pods' subnet. The
pod's routes tell the last two: gateways are surely the node's; what else is on the subnet is so where discovery says
that no pod has the address.

Sources: Linux, /proc/net/route and /proc/net/ipv6_route (net/ipv4/fib_trie.c, net/ipv6/route.c); Kubernetes, downward
API (status.hostIPs).
"""

from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from sys import byteorder
from typing import Final

from proxy.model import plain_ip

_UP: Final = 0x1
_GATEWAY: Final = 0x2
_ALL: Final = 0
"""Prefix length of the default route: everything is behind it, so nothing is near by it."""

Subnet = tuple[int, int, int]
"""(version, first address, mask), as numbers."""


class Nearby:
    """The node's addresses, and the subnets that the pod reaches without a gateway."""

    __slots__ = ("_node_ips", "_subnets")

    def __init__(self, node_ips: Sequence[str] = (), subnets: Sequence[Subnet] = ()) -> None:
        self._node_ips = frozenset(node_ips)
        self._subnets = tuple(subnets)

    def is_node(self, ip: str) -> bool:
        """Tell whether the address is surely the node's."""
        return ip in self._node_ips

    def is_near(self, ip: str) -> bool:
        """Tell whether the address is on a subnet of the pod's own."""
        try:
            address = ip_address(ip)
        except ValueError:
            return False
        number = int(address)
        return any(version == address.version and number & mask == first for version, first, mask in self._subnets)


def nearby(node_ips: Sequence[str], routes: str, routes_v6: str) -> Nearby:
    """Make it of the node's known addresses and the text of the two files; what cannot be read tells nothing."""
    ips = {plain_ip(ip) for ip in node_ips}
    subnets: list[Subnet] = []
    for line in routes.splitlines()[1:]:
        with suppress(ValueError):
            _read_v4(line.split(), ips, subnets)
    for line in routes_v6.splitlines():
        with suppress(ValueError):
            _read_v6(line.split(), ips, subnets)
    return Nearby(tuple(ips), subnets)


def _read_v4(words: list[str], ips: set[str], subnets: list[Subnet]) -> None:
    """`eth0 dest gateway flags refs use metric mask ...`: numbers in the machine's order."""
    if len(words) < 8 or words[0] == "lo":
        return
    dest, gateway, mask = (_v4(words[n]) for n in (1, 2, 7))
    flags = int(words[3], 16)
    if flags & _GATEWAY:
        ips.add(str(gateway))
    elif flags & _UP and int(mask) != _ALL:
        subnets.append((4, int(dest) & int(mask), int(mask)))


def _v4(digits: str) -> IPv4Address:
    # On a little-endian machine the first byte of the address is the last of the number.
    return IPv4Address(int.from_bytes(bytes.fromhex(digits), "little" if byteorder == "little" else "big"))


def _read_v6(words: list[str], ips: set[str], subnets: list[Subnet]) -> None:
    """`dest prefix source prefix gateway metric refs use flags eth0`: numbers as in packets."""
    if len(words) < 10 or words[9] == "lo":
        return
    dest, gateway = (IPv6Address(bytes.fromhex(words[n])) for n in (0, 4))
    prefix, flags = int(words[1], 16), int(words[8], 16)
    if flags & _GATEWAY:
        ips.add(gateway.compressed)
    elif flags & _UP and prefix != _ALL and not dest.is_multicast:
        network = ip_network((int(dest), prefix), strict=False)
        subnets.append((6, int(network.network_address), int(network.netmask)))
