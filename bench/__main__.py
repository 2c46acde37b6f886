"""`python -m bench`: the sidecar beside Envoy, HAProxy and no proxy, in one run. Edge.

python -m bench                 all cases; rewrites docs/performance.md and its pictures (about 25 minutes)
python -m bench --quick         the headline rows (under 90 seconds)
python -m bench --only http2    one case, or several
python -m bench --render        docs/performance.md again, from the rows of the last full run
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from bench import report, slow_replica
from bench.arena import BIN, CLIENT, arena, share_processors
from bench.cases import GROUPS, QUICK, Context, Group
from bench.load import Refused
from bench.machine import describe
from bench.rows import Row, as_json, merge_all
from bench.servers import servers
from bench.systems import SYSTEMS, running
from bench.tables import rich_tables

RESULTS = Path(__file__).parent / "results"
SINGLE_PARTS = ("sidecar", "init", "webhook")
_WIDTH = 140
"""Columns of the tables where no terminal says how many it has."""
_COUNTER = """
import urllib.request
lines = urllib.request.urlopen("http://127.0.0.1:4191/metrics", timeout=5).read().decode().splitlines()
print(sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("request_total{")))
"""


class Run:
    """One run of the benchmark: the rows so far, and where they come from."""

    def __init__(self, options: argparse.Namespace, folder: Path, console: Console) -> None:
        self.systems: Sequence[str] = options.systems
        self.seconds: int = options.seconds
        self.rounds: int = options.rounds
        self.quick: bool = options.quick
        self.only: Sequence[str] = options.only or (QUICK if options.quick else ())
        self.folder = folder
        self.console = console
        self.rows: list[Row] = []
        self.faults: list[str] = []
        self.begun_s = time.monotonic()

    def groups(self, round_number: int) -> list[Group]:
        """The groups that this round measures."""
        wanted = [group for group in GROUPS if not self.only or group.case in self.only]
        return [group for group in wanted if round_number < group.most_rounds]

    def everything(self) -> None:
        """All rounds; within each, systems stand next to each other in time, in another order each round."""
        for number in range(self.rounds):
            for group in self.groups(number):
                # No proxy, no cost to compare: one round shows what load maker and server can do.
                systems = [s for s in self.systems if s in group.systems and (s != "direct" or number == 0)]
                for system in _rotated(systems, number):
                    self.group(number, group, system)
        share_processors(None, is_alone=False)
        if not self.only or slow_replica.CASE in self.only:
            for system, balancing in slow_replica.variants(self.systems):
                self.say(f"{slow_replica.CASE} {system} {balancing}")
                try:
                    self.rows.append(slow_replica.measure(self.folder, system, balancing, 2 * self.seconds))
                except Refused as error:
                    self.faults.append(f"{slow_replica.CASE}, {system} {balancing}: {error}")

    def group(self, number: int, group: Group, system: str) -> None:
        """One start of one system: measure, end it."""
        self.say(f"{number + 1}/{self.rounds} {group.case} {system}")
        with running(system, self.folder, group.setup) as pid:
            share_processors(pid, group.is_alone)
            context = Context(system, pid, self.folder, self.seconds, self.quick, self.faults, self.warn)
            try:
                rows = group.run(context)
            except Refused as error:
                self.faults.append(f"{group.case}, {system}: {error}")
                return
            self.rows += _with_note(rows) if system == "tulle" and group.setup.protocol != "tcp" else rows

    def say(self, text: str) -> None:
        """Tell on the terminal how far it is."""
        self.console.print(f"[dim]{time.monotonic() - self.begun_s:5.0f} s  {text} ...[/]")

    def warn(self, text: str) -> None:
        """Tell of what did not go as it should."""
        self.console.print(f"[yellow]{text}[/]", highlight=False)


def _rotated(systems: list[str], by: int) -> list[str]:
    by %= max(1, len(systems))
    return systems[by:] + systems[:by]


def _with_note(rows: list[Row]) -> list[Row]:
    """Mark rows whose requests the sidecar did not count: it relayed their connections unparsed."""
    command = ("ip", "netns", "exec", CLIENT, str(BIN / "python"), "-S", "-E", "-c", _COUNTER)
    counted = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    if rows[0].case.startswith("memory") or counted > 0:
        return rows
    return [replace(row, note=row.note or "relayed unparsed") for row in rows]


def _singles(folder: Path) -> dict[str, list[dict[str, object]]]:
    """What has no rival: the sidecar's start, the init container, the webhook."""
    found = {}
    for part in SINGLE_PARTS:
        output = folder / f"{part}.json"
        subprocess.run((sys.executable, "-m", f"bench.{part}", "--output", str(output)), check=True)
        found[part] = json.loads(output.read_text())
    return found


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.partition("\n")[0])
    names = [group.case for group in GROUPS] + [slow_replica.CASE]
    parser.add_argument("--quick", action="store_true", help="the headline rows, under 90 seconds")
    parser.add_argument("--only", nargs="+", metavar="CASE", choices=names, help=", ".join(names))
    parser.add_argument("--systems", nargs="+", choices=sorted(SYSTEMS), default=list(SYSTEMS))
    parser.add_argument("--seconds", type=int, help="of each measurement, whole (default: 2; --quick: 1)")
    parser.add_argument("--rounds", type=int, help="rounds; medians are kept (default: 3; --quick: 1)")
    parser.add_argument("--output", type=Path, help="file for the rows (default: bench/results/<kind>.json)")
    parser.add_argument("--render", action="store_true", help="write docs/performance.md from the last full run's rows")
    options = parser.parse_args()
    options.seconds = options.seconds or (1 if options.quick else 2)
    options.rounds = options.rounds or (1 if options.quick else 3)
    return options


def main() -> int:
    """Run, print the tables, write the rows; after a full run the documentation too."""
    options = _options()
    if options.render:
        report.write(RESULTS / "latest.json")
        return 0
    if os.geteuid() != 0:
        sys.exit("the benchmark makes network namespaces: run it as root")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # so that namespaces and servers go too
    is_full = not options.quick and not options.only and len(options.systems) == len(SYSTEMS)
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="tulle-bench-") as name:
        os.chmod(name, 0o755)
        run = Run(options, Path(name), console)
        with arena(), servers(run.folder):
            run.everything()
        singles = _singles(run.folder) if is_full else {}
    rows = merge_all(run.rows)
    wide = Console() if sys.stdout.isatty() else Console(width=_WIDTH)
    for table in rich_tables(rows):
        wide.print(table)
    output = options.output or RESULTS / ("latest.json" if is_full else "quick.json" if options.quick else "only.json")
    output.parent.mkdir(exist_ok=True)
    output.write_text(json.dumps([as_json(row) for row in rows], indent=1) + "\n")
    output.with_suffix(".about.json").write_text(json.dumps({**describe(options), "singles": singles}, indent=1) + "\n")
    print(f"Rows written to {output}; {time.monotonic() - run.begun_s:.0f} s")
    if is_full:
        report.write(output)
    for fault in run.faults:
        print(f"failed: {fault}", file=sys.stderr)
    return 1 if run.faults else 0


if __name__ == "__main__":
    sys.exit(main())
