"""The lab's fixed addresses and the allocation of pods' addresses. Pure.

Every lab uses the same ones: labs stand side by side because each has a network namespace of its own.
"""

import ipaddress
from dataclasses import dataclass, field

POD_NETWORK_V4 = ipaddress.IPv4Network("10.244.0.0/16")
POD_NETWORK_V6 = ipaddress.IPv6Network("fd00:10:244::/64")
SERVICE_NETWORK_V4 = ipaddress.IPv4Network("10.96.0.0/16")
SERVICE_NETWORK_V6 = ipaddress.IPv6Network("fd00:10:96::/112")
NODE_V4, NODE_V6 = "10.244.0.1", "fd00:10:244::1"
API_V4, API_V6 = "10.96.0.1", "fd00:10:96::1"
DNS_V4, DNS_V6 = "10.96.0.10", "fd00:10:96::a"
GATEWAY_V6 = "fe80::1"  # IPv6 neighbours are found on their own link only, so each pod's link has this one
_FIRST_POD = 2


@dataclass(frozen=True)
class PodAddresses:
    v4: str
    v6: str

    @property
    def link(self) -> str:
        """The name of the node's end of the pod's link: at most 15 characters (IFNAMSIZ)."""
        return "pod" + "-".join(self.v4.split(".")[2:])


class NoAddressLeft(Exception):
    """All of 10.244.0.0/16 is in use."""


@dataclass
class AddressPool:
    """Hands out addresses in turn; one given back is the last to come again, as old clients may still know it."""

    _taken: set[int] = field(default_factory=set)
    _last: int = _FIRST_POD - 1

    def take(self) -> PodAddresses:
        """The next free pair; NoAddressLeft."""
        end = POD_NETWORK_V4.num_addresses - 1
        for step in range(1, end):
            number = (self._last + step - _FIRST_POD) % (end - _FIRST_POD) + _FIRST_POD
            if number not in self._taken:
                self._last = number
                self._taken.add(number)
                return PodAddresses(str(POD_NETWORK_V4[number]), str(POD_NETWORK_V6[number]))
        raise NoAddressLeft("no pod address is left in 10.244.0.0/16")

    def give(self, addresses: PodAddresses) -> None:
        self._taken.discard(int(ipaddress.IPv4Address(addresses.v4)) - int(POD_NETWORK_V4.network_address))
