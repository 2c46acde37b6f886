"""The nft backend: one transaction through `nft -f -`. Edge.

For nodes whose kernel lacks the legacy tables. What was written is read back with `nft list`.
"""

import shutil
import subprocess
from collections.abc import Iterable

from init.errors import BackendError
from init.nft_text import FAMILY_NAMES, TABLE, essence, render_removal, render_script, render_table
from init.rules import FAMILIES, Family, Rule

TIMEOUT_S = 10.0
"""A transaction takes milliseconds; a kernel that is asked for its netlink lock by others may take longer."""

PROBE_TABLE = "tulle_probe"


class Nft:
    """The tables `ip tulle` and `ip6 tulle` in this network namespace."""

    name = "nft"

    def probe(self, family: Family) -> None:
        """Add a table with one rule of every kind that a plan uses, and delete it. Raises BackendError."""
        _run(["-f", "-"], probe_script(family))
        _run(["delete", "table", FAMILY_NAMES[family], PROBE_TABLE])

    def apply(self, rules: Iterable[Rule], families: Iterable[Family]) -> None:
        """Make the plan the state of all families' tables, in one transaction. Raises BackendError."""
        _run(["-f", "-"], render_script(rules, families))

    def clear(self, families: Iterable[Family] = FAMILIES) -> None:
        """Remove everything of ours. Raises BackendError."""
        if shutil.which("nft") is None:
            return  # an image without the program has never added a table
        tables = _tables()
        present = [family for family in families if _table(family) in tables]
        if present:
            _run(["-f", "-"], render_removal(present))

    def read(self, family: Family) -> list[str]:
        """Read the essence of the kernel's rules that are ours. Raises BackendError."""
        if _table(family) not in _tables():
            return []
        return essence(_run(["-n", "list", "table", FAMILY_NAMES[family], TABLE]))

    def expected(self, rules: Iterable[Rule], family: Family) -> list[str]:
        """What `read` must answer after `apply`."""
        return essence(render_table(rules, family))


def _table(family: Family) -> str:
    return f"table {FAMILY_NAMES[family]} {TABLE}"


def _tables() -> list[str]:
    return _run(["list", "tables"]).splitlines()


def probe_script(family: Family) -> str:
    """Write a transaction that adds rules of every kind."""
    name = f"{FAMILY_NAMES[family]} {PROBE_TABLE}"
    return f"""add table {name}
delete table {name}
table {name} {{
    chain outbound {{
        type nat hook output priority -101
        oifname "lo" meta skuid 1 tcp dport {{ 1, 3-4 }} return comment "tulle/probe"
        meta l4proto 6 redirect to :1
    }}
    chain inbound {{
        type nat hook prerouting priority -101
        fib daddr type 2 meta l4proto 6 redirect to :1
    }}
}}
"""


def _run(arguments: list[str], script: str | None = None) -> str:
    try:
        done = subprocess.run(
            ["nft", *arguments], input=script, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise BackendError(f"nft: {error}") from error
    if done.returncode:
        raise BackendError(f"nft: {'; '.join(done.stderr.split(chr(10))).strip('; ') or f'status {done.returncode}'}")
    return done.stdout
