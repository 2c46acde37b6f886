"""Rules in the words of nftables, for `nft -f` and for comparing with the kernel's own tables. Pure.

Every rule is written as `nft -n list table` prints it (as of nftables 1.0). The plan lives in one
table `tulle` for each family, ours alone: replacing it whole is one transaction of the kernel, over both families.
"""

import re
from collections.abc import Iterable, Iterator

from contract.lists import PortRange, Subnet
from init.legacy_text import address_text
from init.rules import COMMENT_PREFIX, Family, Hook, Jump, Redirect, Rule, rules_for

TABLE = "tulle"
FAMILY_NAMES: dict[Family, str] = {4: "ip", 6: "ip6"}

PRIORITY = -101
"""One before the usual -100 (NF_IP_PRI_NAT_DST in linux/netfilter_ipv4.h): the first rule that translates a connection
decides, and the mesh must not lose it to a rule that stood there before."""

BASE_CHAINS = {Hook.PREROUTING: "prerouting", Hook.OUTPUT: "output"}

_RULE = re.compile(rf'\b(return|jump \w+|redirect to :\d+) comment "({COMMENT_PREFIX}[^"]+)"$')

# Chains are referred to by jumps and must come first.
CHAIN_ORDER = (Hook.INBOUND, Hook.OUTBOUND, Hook.PREROUTING, Hook.OUTPUT)


def render_script(rules: Iterable[Rule], families: Iterable[Family]) -> str:
    """Write the transaction that makes the plan the whole content of our tables."""
    plan = tuple(rules)
    parts: list[str] = []
    for family in families:
        parts += [render_removal([family]), render_table(plan, family)]
    return "\n".join(parts) + "\n"


def render_removal(families: Iterable[Family]) -> str:
    """Write the transaction that removes our tables, there or not."""
    names = [FAMILY_NAMES[family] for family in families]
    # Adding first makes deleting succeed on a namespace that never had the table.
    return "\n".join(f"add table {name} {TABLE}\ndelete table {name} {TABLE}" for name in names)


def render_table(rules: Iterable[Rule], family: Family) -> str:
    """Write one family's table as `nft -n list table` prints it."""
    own = rules_for(family, rules)
    lines = [f"table {FAMILY_NAMES[family]} {TABLE} {{"]
    for number, hook in enumerate(CHAIN_ORDER):
        lines += [""] * bool(number) + [f"\tchain {hook.value} {{"]
        if hook in BASE_CHAINS:
            lines.append(f"\t\ttype nat hook {BASE_CHAINS[hook]} priority {PRIORITY}; policy accept;")
        lines += [f"\t\t{render_rule(rule, family)}" for rule in own if rule.hook is hook]
        lines.append("\t}")
    return "\n".join([*lines, "}"])


def render_rule(rule: Rule, family: Family) -> str:
    """Write one rule without its chain."""
    return " ".join([*_match_words(rule, family), _verdict(rule), f'comment "{rule.comment}"'])


def essence(listing: str) -> list[str]:
    """Reduce what `nft list table` prints to chains, hooks, and each rule's verdict and name, in order.

    Releases of nft print matches in ways of their own; the kernel took the transaction whole, so it is enough to see
    that every rule stands where it belongs. A line that is none of ours stays as it is, and makes a difference.
    """
    lines = (line.strip() for line in listing.splitlines())
    return [_essence(line) for line in lines if line and line != "}" and not line.startswith("table ")]


def _essence(line: str) -> str:
    if line.startswith("chain "):
        return line.removesuffix(" {")
    if line.startswith("type nat hook "):
        return " ".join(line.split()[:4])
    rule = _RULE.search(line)
    return f"{rule[1]} {rule[2]}" if rule else line


def _match_words(rule: Rule, family: Family) -> Iterator[str]:
    match = rule.match
    for side, subnet in (("saddr", match.source), ("daddr", match.destination)):
        if subnet is not None and subnet.prefixlen:
            yield f"{FAMILY_NAMES[family]} {side} {_subnet_text(subnet)}"
    if match.to_loopback:
        yield 'oifname "lo"'
    if match.socket_uid is not None:
        yield f"meta skuid {match.socket_uid}"
    # Numbers, not names: the names come from files that a small image does not have. 6 is TCP in IP's protocol
    # field, 2 is RTN_LOCAL (linux/rtnetlink.h).
    yield f"tcp dport {_ports_text(match.destination_ports)}" if match.destination_ports else "meta l4proto 6"
    if match.to_local_address:
        yield "fib daddr type 2"


def _verdict(rule: Rule) -> str:
    match rule.verdict:
        case Redirect(port):
            return f"redirect to :{port}"
        case Jump(chain):
            return f"jump {chain.value}"
        case _:
            return "return"


def _subnet_text(subnet: Subnet) -> str:
    # A prefix of full length is printed as the address alone.
    return address_text(subnet) + ("" if subnet.prefixlen == subnet.max_prefixlen else f"/{subnet.prefixlen}")


def _ports_text(ranges: tuple[PortRange, ...]) -> str:
    entries = ", ".join(map(str, ranges))
    return entries if len(ranges) == 1 else f"{{ {entries} }}"
