"""The written form of port and subnet lists, as people put them into annotations and flags. Pure.

`4567,4568,5000-5010` and `10.0.0.0/8,fd00::/8`: the injector checks them, the init container and the sidecar read
them, and all three must agree on every corner. Faults are `ValueError`s that name the entry and the fix; the caller
adds where the text stood.
"""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import NamedTuple

Subnet = IPv4Network | IPv6Network


class PortRange(NamedTuple):
    """Inclusive range of TCP ports, 1-65535."""

    first: int
    last: int

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


def parse_ports(text: str) -> tuple[PortRange, ...]:
    """Read a comma-separated list of ports and ranges; empty text is the empty list.

    Returns sorted ranges that neither overlap nor touch. Raises ValueError naming the first bad entry.
    """
    return merge_ports(_port_range(entry) for entry in _entries(text, "a port or a range such as 5000-5010"))


def merge_ports(ranges: Iterable[PortRange]) -> tuple[PortRange, ...]:
    """Sort ranges and join those that overlap or touch, so that equal sets have one form."""
    merged: list[PortRange] = []
    for current in sorted(ranges):
        if merged and current.first <= merged[-1].last + 1:
            merged[-1] = PortRange(merged[-1].first, max(merged[-1].last, current.last))
        else:
            merged.append(current)
    return tuple(merged)


def format_ports(ranges: Iterable[PortRange]) -> str:
    """Write ranges in the form that `parse_ports` reads."""
    return ",".join(map(str, ranges))


def parse_subnets(text: str) -> tuple[Subnet, ...]:
    """Read a comma-separated list of IPv4 and IPv6 subnets; a bare address is a subnet of one.

    Returns them without repetition, in the order written. Raises ValueError naming the first bad entry.
    """
    return tuple(dict.fromkeys(_subnet(entry) for entry in _entries(text, "a subnet such as 10.0.0.0/8 or fd00::/8")))


def format_subnets(subnets: Iterable[Subnet]) -> str:
    """Write subnets in the form that `parse_subnets` reads."""
    return ",".join(map(str, subnets))


def _entries(text: str, wanted: str) -> list[str]:
    if not text.strip():
        return []
    entries = [entry.strip() for entry in text.split(",")]
    if "" in entries:
        raise ValueError(f"has an empty entry; write {wanted} between commas")
    return entries


def _port_range(entry: str) -> PortRange:
    first, dash, last = entry.partition("-")
    lower, upper = _port(first, entry), _port(last if dash else first, entry)
    if lower > upper:
        raise ValueError(f"{entry!r} runs backwards; write {upper}-{lower}")
    return PortRange(lower, upper)


def _port(digits: str, entry: str) -> int:
    # Only ASCII digits: int() would also take "+80", "8_0" and digits of other scripts.
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"{entry!r} is no port; write a number from 1 to 65535 or a range such as 5000-5010")
    # int() refuses thousands of digits with an error of its own; five are the most a port has.
    if len(digits) > 5 or not 1 <= int(digits) <= 65535:
        raise ValueError(f"{entry!r} is out of range; ports go from 1 to 65535")
    return int(digits)


def _subnet(entry: str) -> Subnet:
    try:
        return ip_network(entry)
    except ValueError:
        pass
    try:
        meant = ip_network(entry, strict=False)
    except ValueError:
        message = f"{entry!r} is no subnet; write an address and a prefix length such as 10.0.0.0/8 or fd00::/8"
        raise ValueError(message) from None
    raise ValueError(f"{entry!r} has bits set behind its prefix; write {meant}")
