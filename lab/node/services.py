"""Cluster addresses as one nftables ruleset text. Pure; applied whole by `nft -f -`, which is atomic.

Each family has a table in the node namespace. A verdict map finds the service port, its chain picks an endpoint: by
chance, or by a hash of the client's address where the service asks for session affinity (a client then stays with its
endpoint for as long as the endpoints stay the same). What is still addressed to a service after that has no endpoint
and is refused at once, as kube-proxy does. A pod that reaches itself through its service would see its own address as
the sender: that one case is given the node's.

Sources: nft(8); kube-proxy's observable behaviour (KEP-3866 describes it for nftables).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from .addresses import NODE_V4, NODE_V6, SERVICE_NETWORK_V4, SERVICE_NETWORK_V6
from .endpoints import Service

TABLE = "tulle-lab"
_PROTOCOLS = ("tcp", "udp")


@dataclass(frozen=True)
class _Family:
    word: str  # nft's name of the family, and of the protocol in expressions
    address_type: str
    network: str
    node: str
    own: tuple[str, ...] = ()

    def has(self, address: str) -> bool:
        return (":" in address) == (self.word == "ip6")


_FAMILIES = (
    _Family("ip", "ipv4_addr", str(SERVICE_NETWORK_V4), NODE_V4),
    _Family("ip6", "ipv6_addr", str(SERVICE_NETWORK_V6), NODE_V6),
)


@dataclass(frozen=True)
class _Target:
    """One service port of one family with the (address, port) pairs behind it."""

    address: str
    protocol: str
    port: int
    sticks: bool
    backends: tuple[tuple[str, int], ...]


def ruleset(services: Iterable[Service], served_here: frozenset[str]) -> str:
    """The text for `nft -f -`. `served_here` are cluster addresses that the daemon itself answers on: left alone."""
    everything = list(services)
    return "".join(_table(family, _targets(family, everything, served_here)) for family in _FAMILIES)


UdpBackends = dict[tuple[str, int], tuple[tuple[str, int], ...]]
"""The (address, port) pairs behind each (service address, port)."""


def udp_backends(services: Iterable[Service], served_here: frozenset[str]) -> UdpBackends:
    """Where the UDP flows of services lead."""
    everything = list(services)
    targets = [target for family in _FAMILIES for target in _targets(family, everything, served_here)]
    return {(target.address, target.port): target.backends for target in targets if target.protocol == "udp"}


def stale(before: UdpBackends, after: UdpBackends) -> set[tuple[str, int]]:
    """Service addresses and ports whose flows may lead to a backend that is one no longer."""
    return {place for place, backends in before.items() if set(backends) - set(after.get(place, ()))}


def _targets(family: _Family, services: list[Service], served_here: frozenset[str]) -> list[_Target]:
    found = []
    for service in services:
        usable = [endpoint for endpoint in service.usable() if family.has(endpoint.address)]
        for address in service.addresses:
            if not family.has(address) or address in served_here:
                continue
            for port in service.ports:
                if port.protocol.lower() not in _PROTOCOLS:
                    continue
                numbers = [(endpoint.address, dict(endpoint.ports).get(port.name)) for endpoint in usable]
                backends = tuple((where, number) for where, number in numbers if number is not None)
                if backends:
                    found.append(_Target(address, port.protocol.lower(), port.number, service.sticks, backends))
    return found


def _table(family: _Family, targets: list[_Target]) -> str:
    chains = "".join(_chain(family, number, target) for number, target in enumerate(targets))
    entries = ", ".join(f"{t.address} . {t.protocol} . {t.port} : goto port-{n}" for n, t in enumerate(targets))
    elements = f"\n    elements = {{ {entries} }}" if entries else ""
    look_up = f"{family.word} daddr . meta l4proto . th dport vmap @ports"
    unserved = f"{family.word} daddr {family.network} fib daddr type != local"
    # A reset ends a TCP client's wait at once; for an ICMP message Linux' IPv6 first asks a second time.
    refuse = f"{unserved} meta l4proto tcp reject with tcp reset\n    {unserved} reject with {_reject(family)}"
    return f"""\
add table {family.word} {TABLE}
delete table {family.word} {TABLE}
table {family.word} {TABLE} {{
  map ports {{
    type {family.address_type} . inet_proto . inet_service : verdict{elements}
  }}
{chains}\
  chain arriving {{
    type nat hook prerouting priority -100
    {look_up}
  }}
  chain leaving-node {{
    type nat hook output priority -100
    {look_up}
  }}
  chain arriving-unserved {{
    type filter hook prerouting priority -90
    {refuse}
  }}
  chain leaving-node-unserved {{
    type filter hook output priority -90
    {refuse}
  }}
{_hairpin(family, targets)}\
}}
"""


def _chain(family: _Family, number: int, target: _Target) -> str:
    count = len(target.backends)
    pick = f"jhash {family.word} saddr mod {count}" if target.sticks else f"numgen random mod {count}"
    backends = ", ".join(f"{n} : {address} . {port}" for n, (address, port) in enumerate(target.backends))
    if count == 1:
        address, port = target.backends[0]
        where = f"[{address}]:{port}" if family.word == "ip6" else f"{address}:{port}"
        return f"  chain port-{number} {{\n    meta l4proto {target.protocol} dnat to {where}\n  }}\n"
    return (
        f"  chain port-{number} {{\n    meta l4proto {target.protocol} "
        f"dnat {family.word} addr . port to {pick} map {{ {backends} }}\n  }}\n"
    )


def _hairpin(family: _Family, targets: list[_Target]) -> str:
    own = sorted({address for target in targets for address, _ in target.backends})
    if not own:
        return ""
    pairs = ", ".join(f"{address} . {address}" for address in own)
    return f"""\
  chain to-itself {{
    type nat hook postrouting priority 100
    ct status dnat {family.word} saddr . {family.word} daddr {{ {pairs} }} snat to {family.node}
  }}
"""


def _reject(family: _Family) -> str:
    return "icmp port-unreachable" if family.word == "ip" else "icmpv6 port-unreachable"
