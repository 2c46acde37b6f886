"""How long the init container's command takes, from exec to exit.

    python -m bench.init [--runs 20] [--output FILE]

Runs the real command in network namespaces made for it, a fresh one each time, by each backend; needs root. It measures
and never judges: the exit code says only whether it ran.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

RUNS_LIMIT = 200
BACKENDS = ("auto", "legacy", "nft")
FLAGS = ("--skip-inbound-ports=4567-4568,8080", "--skip-outbound-subnets=10.0.0.0/8,fd00::/8")


@dataclass(frozen=True)
class Row:
    """One line of the result; wall-clock milliseconds, CPU of the command and its children."""

    case: str
    runs: int
    p50_ms: float
    worst_ms: float
    cpu_ms: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.init", description="Measure the init container's command.")
    parser.add_argument("--runs", type=int, choices=range(1, RUNS_LIMIT + 1), metavar="N", default=20)
    parser.add_argument("--output", type=Path, help="write the rows as JSON to this file too")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("network namespaces need root; run it with sudo")
    rows = [_measure(backend, options.runs) for backend in BACKENDS]
    for row in rows:
        times = f"p50 {row.p50_ms:6.1f} ms  worst {row.worst_ms:6.1f} ms  cpu {row.cpu_ms:6.1f} ms"
        print(f"{row.case:8} {row.runs:4} runs  {times}")
    if options.output:
        options.output.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return 0


def _measure(backend: str, runs: int) -> Row:
    elapsed_ms: list[float] = []
    cpu_before = os.times()
    for number in range(runs):
        with _namespace(f"tulle-bench-{os.getpid()}-{number}") as name:
            command = ["nsenter", f"--net=/run/netns/{name}", Path(sys.executable).with_name("tulle-init")]
            began_s = time.perf_counter()
            subprocess.run([*command, f"--backend={backend}", *FLAGS], check=True, stderr=subprocess.DEVNULL)
            elapsed_ms.append((time.perf_counter() - began_s) * 1000)
    cpu = os.times()
    cpu_s = cpu.children_user + cpu.children_system - cpu_before.children_user - cpu_before.children_system
    return Row(
        case=backend,
        runs=runs,
        p50_ms=round(statistics.median(elapsed_ms), 1),
        worst_ms=round(max(elapsed_ms), 1),
        cpu_ms=round(cpu_s / runs * 1000, 1),
    )


@contextmanager
def _namespace(name: str) -> Iterator[str]:
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


if __name__ == "__main__":
    sys.exit(main())
