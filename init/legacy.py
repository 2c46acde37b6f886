"""The legacy backend: libiptc through python-iptables. Edge; the only importer of iptc.

Each commit runs in a child process of its own: libxtables keeps the extensions of the first family that it was asked
for and finds none of the second's, and it may end the process that it lives in.

A Table holds one snapshot of the kernel's nat table; every change is made in it, and one commit replaces the kernel's
table whole or not at all. Nothing is read back through python-iptables (version 1.2 loses targets' parameters when it
lists rules): `iptables-legacy-save` reads the kernel with other code than wrote it.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from contract.lists import parse_ports
from init.child import run_in_child
from init.errors import BackendError
from init.legacy_text import OWN_CHAINS, address_text, multiport_text, own_rules, render_rule
from init.lock import table_lock
from init.rules import FAMILIES, Family, Hook, Jump, Match, Redirect, Return, Rule, rules_for
from init.shared_libraries import import_iptc

if TYPE_CHECKING:
    import iptc

PROBE_CHAIN = "TULLE_PROBE"
SAVE_COMMANDS = {4: "iptables-legacy-save", 6: "ip6tables-legacy-save"}
PROBE_RULES = (
    Rule("probe-return", Hook.OUTPUT, Match(parse_ports("1,3-4"), socket_uid=1, to_loopback=True), Return()),
    Rule("probe-redirect", Hook.OUTPUT, Match(), Redirect(1)),
)
"""Every match and target of a plan but addrtype, which older kernels accept in either hook alone; it shares the chain
of no owner match."""
TABLE_NAMES = {4: Path("/proc/net/ip_tables_names"), 6: Path("/proc/net/ip6_tables_names")}


class Legacy:
    """The tables of ip_tables and ip6_tables in this network namespace."""

    name = "legacy"

    def probe(self, family: Family) -> None:
        """Add a chain with one rule of every kind that a plan uses, and delete it. Raises BackendError."""
        # What cannot be read back cannot be vouched for.
        if shutil.which(SAVE_COMMANDS[family]) is None:
            raise BackendError(f"the rules cannot be read back: {SAVE_COMMANDS[family]} is not installed")
        self._commit(family, partial(_add_probe, family=family), _delete_probe)

    def apply(self, rules: Iterable[Rule], families: Iterable[Family]) -> None:
        """Make the plan the state of each family's table, one commit each. Raises BackendError."""
        plan = tuple(rules)
        for family in families:
            self._commit(family, partial(_replace, rules=rules_for(family, plan), family=family))

    def clear(self, families: Iterable[Family] = FAMILIES) -> None:
        """Remove everything of ours; a family without a nat table is left untouched. Raises BackendError."""
        for family in families:
            if _has_nat_table(family):
                self._commit(family, _remove)

    def read(self, family: Family) -> list[str]:
        """Read the kernel's rules that are ours, as iptables-save lines. Raises BackendError."""
        return sorted(own_rules(_saved(family)), key=_chain_of) if _has_nat_table(family) else []

    def expected(self, rules: Iterable[Rule], family: Family) -> list[str]:
        """What `read` must answer after `apply`."""
        return sorted(map(render_rule, rules_for(family, rules)), key=_chain_of)

    def _commit(self, family: Family, *changes: Callable[[iptc.Table], None]) -> None:
        library = import_iptc()
        kind = library.Table if family == 4 else library.Table6

        def work() -> None:
            # For a jump python-iptables asks each table whether it has that chain, and libiptc makes a table that is
            # asked for: four empty ones would see every packet of the pod for as long as it lives.
            kind.ALL = [kind.NAT]
            with table_lock():
                table = kind(kind.NAT, autocommit=False)
                for change in changes:
                    change(table)
                    table.commit()
                    table.refresh()

        failure = run_in_child(work)
        if failure is not None:
            raise BackendError(f"IPv{family} legacy tables: {failure}")


def _replace(table: iptc.Table, rules: Iterable[Rule], family: Family) -> None:
    _remove(table)
    for chain in OWN_CHAINS:
        table.create_chain(chain.value)
    for rule in rules:
        # Jumps go first in the base chains: the mesh must not lose a connection to a rule that stood there before.
        position = 0 if isinstance(rule.verdict, Jump) else None
        _add(table, family, rule.hook.value, rule, position)


def _remove(table: iptc.Table) -> None:
    """Delete our chains and every jump into them, whoever of our versions made it."""
    present = [chain.value for chain in OWN_CHAINS if table.is_chain(chain.value)]
    for base in (Hook.PREROUTING.value, Hook.OUTPUT.value):
        for number in reversed([n for n, target in enumerate(_targets(table, base)) if target in present]):
            # The one call of libiptc that python-iptables binds but does not offer; deleting by content would need
            # the rule parsed first, and fails on rules of others that this image has no extension for.
            table._iptc.iptc_delete_num_entry(base.encode(), number, table._handle)
    for name in present:
        table.flush_entries(name)
    for name in present:
        table.delete_chain(name)


def _targets(table: iptc.Table, chain: str) -> Iterator[str]:
    entry = table.first_rule(chain)
    while entry:
        yield (table.get_target(entry) or b"").decode()
        entry = table.next_rule(entry)


def _add(table: iptc.Table, family: Family, name: str, rule: Rule, position: int | None) -> None:
    library = import_iptc()
    built = library.Rule() if family == 4 else library.Rule6()
    built.protocol = "tcp"
    _add_matches(built, rule.match)
    built.create_match("comment").comment = rule.comment
    match rule.verdict:
        case Redirect(port):
            built.create_target("REDIRECT").to_ports = str(port)
        case Jump(target):
            built.create_target(target.value)
        case Return():
            built.create_target("RETURN")
    chain = library.Chain(table, name)
    if position is None:
        chain.append_rule(built)
    else:
        chain.insert_rule(built, position)


def _add_matches(built: iptc.Rule, match: Match) -> None:
    if match.source is not None:
        built.src = f"{address_text(match.source)}/{match.source.prefixlen}"
    if match.destination is not None:
        built.dst = f"{address_text(match.destination)}/{match.destination.prefixlen}"
    if match.to_loopback:
        built.out_interface = "lo"
    if match.to_local_address:
        built.create_match("addrtype").dst_type = "LOCAL"
    if match.socket_uid is not None:
        built.create_match("owner").uid_owner = str(match.socket_uid)
    if match.destination_ports:
        built.create_match("multiport").dports = multiport_text(match.destination_ports)


def _add_probe(table: iptc.Table, family: Family) -> None:
    _delete_probe(table)
    table.create_chain(PROBE_CHAIN)
    for rule in PROBE_RULES:
        _add(table, family, PROBE_CHAIN, rule, None)


def _delete_probe(table: iptc.Table) -> None:
    if table.is_chain(PROBE_CHAIN):
        table.flush_entries(PROBE_CHAIN)
        table.delete_chain(PROBE_CHAIN)


def _chain_of(line: str) -> str:
    """Order lines by chain alone, keeping the order within each: the save command has its own order of chains."""
    return line.split()[1]


def _has_nat_table(family: Family) -> bool:
    """Whether this namespace already has the table; asking libiptc for it would make it."""
    try:
        return "nat" in TABLE_NAMES[family].read_text().split()
    except OSError:
        return False


def _saved(family: Family) -> str:
    command = [SAVE_COMMANDS[family], "-t", "nat"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise BackendError(f"the rules cannot be read back: {error}") from error
    if done.returncode:
        raise BackendError(f"the rules cannot be read back: {command[0]}: {done.stderr.strip()}")
    return done.stdout
