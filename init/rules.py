"""The capture plan: configuration in, ordered rules out. Pure.

All rules stand in two chains of the nat table: TULLE_INBOUND, entered from PREROUTING, and TULLE_OUTBOUND, entered
from OUTPUT. The first rule that matches a connection's first packet decides for the whole connection. RETURN leaves
the connection as it is, REDIRECT sends it to a listener of the sidecar, which asks the kernel for the original
destination.

What never enters these chains: traffic of the pod to itself. Its packets take their decision in OUTPUT, where the
loopback rule returns them, and the kernel does not consult PREROUTING again for a connection that OUTPUT has seen.

Sources: the order is Linkerd's proxy-init, which Conduit began; addrtype on the inbound jump, outbound subnets and the
guard of the sidecar's own listeners are additions.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from contract import ports
from contract.lists import PortRange, Subnet, parse_ports
from init.config import Config

Family = Literal[4, 6]
FAMILIES: tuple[Family, ...] = (4, 6)

INBOUND_CHAIN = "TULLE_INBOUND"
OUTBOUND_CHAIN = "TULLE_OUTBOUND"

COMMENT_PREFIX = "tulle/"
"""Every rule's comment in the kernel is this and the rule's name."""

MULTIPORT_LIMIT = 15
"""Port slots of one multiport match (XT_MULTI_PORTS in linux/netfilter/xt_multiport.h); a range takes two."""


class Hook(Enum):
    """Where a rule stands: one of the two base chains, or one of ours."""

    PREROUTING = "PREROUTING"
    OUTPUT = "OUTPUT"
    INBOUND = INBOUND_CHAIN
    OUTBOUND = OUTBOUND_CHAIN


@dataclass(frozen=True, slots=True)
class Match:
    """What a TCP packet must be for its rule to apply; every field that is set must hold."""

    destination_ports: tuple[PortRange, ...] = ()
    source: Subnet | None = None
    destination: Subnet | None = None
    socket_uid: int | None = None
    to_loopback: bool = False
    """Leaves through the interface `lo`."""
    to_local_address: bool = False
    """The destination is an address of this network namespace."""


@dataclass(frozen=True, slots=True)
class Return:
    """Leave the connection alone."""


@dataclass(frozen=True, slots=True)
class Redirect:
    """Send the connection to this local TCP port."""

    port: int


@dataclass(frozen=True, slots=True)
class Jump:
    """Go on in one of our chains."""

    chain: Hook


Verdict = Return | Redirect | Jump


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the plan. A family of None means both."""

    name: str
    hook: Hook
    match: Match
    verdict: Verdict
    family: Family | None = None

    @property
    def comment(self) -> str:
        return COMMENT_PREFIX + self.name


def plan(config: Config) -> tuple[Rule, ...]:
    """Decide the rules, in the order in which the kernel is to try them."""
    return (*_inbound(config), *_outbound(config), *_jumps())


def rules_for(family: Family, rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Keep the rules that belong into one address family's table."""
    return tuple(rule for rule in rules if rule.family in (None, family))


def _inbound(config: Config) -> Iterator[Rule]:
    # A direct connection to a listener of the sidecar is left as it is, so that the listener sees itself as the
    # original destination and refuses; redirected, it would be dialled again without end.
    listeners = parse_ports(f"{config.outbound_proxy_port},{config.inbound_proxy_port}")
    yield from _skip_ports("inbound-listeners", Hook.INBOUND, listeners)
    mesh = parse_ports(f"{ports.CONTROL_PORT},{ports.ADMIN_PORT}")
    yield from _skip_ports("inbound-mesh-ports", Hook.INBOUND, mesh)
    yield from _skip_ports("skip-inbound-ports", Hook.INBOUND, config.skip_inbound_ports)
    for number, subnet in enumerate(config.skip_inbound_subnets, 1):
        match = Match(source=subnet)
        yield Rule(f"skip-inbound-subnet-{number}", Hook.INBOUND, match, Return(), subnet.version)
    yield Rule("redirect-inbound", Hook.INBOUND, Match(), Redirect(config.inbound_proxy_port))


def _outbound(config: Config) -> Iterator[Rule]:
    yield Rule("outbound-of-proxy", Hook.OUTBOUND, Match(socket_uid=config.proxy_uid), Return())
    yield Rule("outbound-loopback", Hook.OUTBOUND, Match(to_loopback=True), Return())
    yield from _skip_ports("skip-outbound-ports", Hook.OUTBOUND, config.skip_outbound_ports)
    for number, subnet in enumerate(config.skip_outbound_subnets, 1):
        match = Match(destination=subnet)
        yield Rule(f"skip-outbound-subnet-{number}", Hook.OUTBOUND, match, Return(), subnet.version)
    yield Rule("redirect-outbound", Hook.OUTBOUND, Match(), Redirect(config.outbound_proxy_port))


def _jumps() -> Iterator[Rule]:
    # Only packets for this pod's own addresses are inbound: what a container inside the pod (docker in docker, a
    # virtual machine) sends through an inner bridge to the world passes PREROUTING too and must keep its way.
    yield Rule("enter-inbound", Hook.PREROUTING, Match(to_local_address=True), Jump(Hook.INBOUND))
    yield Rule("enter-outbound", Hook.OUTPUT, Match(), Jump(Hook.OUTBOUND))


def _skip_ports(name: str, hook: Hook, ranges: tuple[PortRange, ...]) -> Iterator[Rule]:
    groups = list(_port_groups(ranges))
    for number, group in enumerate(groups, 1):
        unique = name if len(groups) == 1 else f"{name}-{number}"
        yield Rule(unique, hook, Match(destination_ports=group), Return())


def _port_groups(ranges: tuple[PortRange, ...]) -> Iterator[tuple[PortRange, ...]]:
    group: list[PortRange] = []
    slots = 0
    for item in ranges:
        width = 1 if item.first == item.last else 2
        if slots + width > MULTIPORT_LIMIT:
            yield tuple(group)
            group, slots = [], 0
        group.append(item)
        slots += width
    if group:
        yield tuple(group)
