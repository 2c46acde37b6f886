"""Rules in the words of iptables-save, for people and for comparing with the kernel's own tables. Pure.

The order of the words is the one in which `iptables-save` prints a rule that `init.legacy` built, so that equal rules
are equal lines.
"""

from collections.abc import Iterable, Iterator
from socket import AF_INET, AF_INET6, inet_ntop

from contract.lists import PortRange, Subnet
from init.rules import Family, Hook, Jump, Redirect, Rule, rules_for

OWN_CHAINS = (Hook.INBOUND, Hook.OUTBOUND)


def render_plan(rules: Iterable[Rule], family: Family) -> str:
    """Write one family's table as `iptables-restore --noflush` would read it."""
    lines = ["*nat", *(f":{chain.value} - [0:0]" for chain in OWN_CHAINS)]
    return "\n".join([*lines, *map(render_rule, rules_for(family, rules)), "COMMIT"])


def render_rule(rule: Rule) -> str:
    """Write one rule, `-A CHAIN ...`."""
    return " ".join(
        ["-A", rule.hook.value, *_match_words(rule), "-m comment --comment", f'"{rule.comment}"', _target(rule)]
    )


def own_rules(saved: str) -> list[str]:
    """Pick out of `iptables-save` output the lines that are ours: rules in our chains and jumps into them."""
    chains = {chain.value for chain in OWN_CHAINS}
    return [line for line in saved.splitlines() if line.startswith("-A ") and chains & set(line.split())]


def address_text(subnet: Subnet) -> str:
    """Write the subnet's address as the C library does, which is how the tools print it."""
    family = AF_INET if subnet.version == 4 else AF_INET6
    return inet_ntop(family, subnet.network_address.packed)


def multiport_text(ranges: tuple[PortRange, ...]) -> str:
    """Write ranges as the multiport match reads and prints them."""
    return ",".join(str(one.first) if one.first == one.last else f"{one.first}:{one.last}" for one in ranges)


def _match_words(rule: Rule) -> Iterator[str]:
    match = rule.match
    for flag, subnet in (("-s", match.source), ("-d", match.destination)):
        # A prefix of length zero matches everything, and the kernel's tables do not even record it.
        if subnet is not None and subnet.prefixlen:
            yield f"{flag} {address_text(subnet)}/{subnet.prefixlen}"
    if match.to_loopback:
        yield "-o lo"
    yield "-p tcp"
    if match.to_local_address:
        yield "-m addrtype --dst-type LOCAL"
    if match.socket_uid is not None:
        yield f"-m owner --uid-owner {match.socket_uid}"
    if match.destination_ports:
        yield f"-m multiport --dports {multiport_text(match.destination_ports)}"


def _target(rule: Rule) -> str:
    match rule.verdict:
        case Redirect(port):
            return f"-j REDIRECT --to-ports {port}"
        case Jump(chain):
            return f"-j {chain.value}"
        case _:
            return "-j RETURN"
