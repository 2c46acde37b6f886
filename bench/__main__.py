"""`python -m bench`: HTTP/1.1 with eight request headers at 1, 8 and 64 connections, every system in one run. Edge."""

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.arena import arena, release
from bench.load import Row, measure
from bench.systems import SYSTEMS, URL, server

RESULTS = Path(__file__).parent / "results" / "latest.json"
CASE = "http1"
CONNECTIONS = (1, 8, 64)


def run(systems: list[str], duration_s: float, rounds: int, folder: Path) -> list[Row]:
    """Measure every system at every number of connections; the median of `rounds` by CPU per request is kept."""
    best: dict[tuple[str, int], list[Row]] = {}
    console = Console(stderr=True)
    with arena(), server(folder):
        for turn in range(rounds):
            for name in systems:
                with SYSTEMS[name](folder) as pid:
                    for connections in CONNECTIONS:
                        console.print(f"[dim]{turn + 1}/{rounds} {name}, {connections} connections ...[/]")
                        row = measure(CASE, name, pid, URL, connections, duration_s)
                        best.setdefault((name, connections), []).append(row)
                if pid:
                    release()
    return [_median(best[name, connections]) for connections in CONNECTIONS for name in systems]


def _median(rows: list[Row]) -> Row:
    ordered = sorted(rows, key=lambda row: row.cpu_us_per_request or -row.requests_per_s)
    return ordered[len(ordered) // 2]


def render(rows: list[Row]) -> Table:
    """The table that people read; `of Envoy` is CPU per request as a share of Envoy's in this run."""
    envoy = {row.connections: row.cpu_us_per_request for row in rows if row.system == "envoy"}
    table = Table(title="HTTP/1.1, eight request headers, keep-alive, one proxy hop")
    columns = ("connections", "system", "CPU µs/request", "of Envoy", "requests/s", "p50 ms", "p99 ms", "RSS MB")
    for column in columns:
        table.add_column(column, justify="left" if column == "system" else "right")
    for row in rows:
        rival, cost = envoy.get(row.connections), row.cpu_us_per_request
        share = f"{cost / rival:.2f}" if rival and cost else "-"
        cells = (cost, share, f"{row.requests_per_s:.0f}", row.p50_ms, row.p99_ms, row.rss_mb)
        style = "bold" if row.system == "tulle" else None
        table.add_row(str(row.connections), row.system, *("-" if x is None else str(x) for x in cells), style=style)
    return table


def main() -> None:
    """Run, print the table, write the rows."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--systems", nargs="+", choices=sorted(SYSTEMS), default=list(SYSTEMS))
    parser.add_argument("--duration", type=float, default=4.0, help="seconds a measurement (default: 4)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; the median is kept (default: 3)")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("the benchmark makes network namespaces: run it as root")
    with tempfile.TemporaryDirectory(prefix="tulle-bench-") as name:
        os.chmod(name, 0o755)
        rows = run(options.systems, options.duration, options.rounds, Path(name))
    Console().print(render(rows))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    print(f"Rows written to {RESULTS.relative_to(Path.cwd()) if RESULTS.is_relative_to(Path.cwd()) else RESULTS}")


if __name__ == "__main__":
    main()
