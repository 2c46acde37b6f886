"""`python -m bench.sidecar`: how long the sidecar takes to be ready, and what it weighs when idle. Edge.

It runs as in a pod, in a network namespace of its own and as uid 2102, compiled as in release builds. Each figure is
the median of RUNS.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.arena import AS_SIDECAR, BIN, CLIENT, CLIENT_IP, arena, process
from bench.probe import rss_mb
from bench.systems import SIDECAR, SIDECAR_ENVIRONMENT
from contract import environment
from contract.ports import ADMIN_PORT

RUNS = 7
IDLE_S = 2.0
"""Rest before the idle sidecar is weighed."""
READY_TIMEOUT_S = 10.0
POLL_S = 0.005

# One process that asks until it is answered: a new one for every question would cost more than what is measured.
_WAIT_READY = f"""
import socket, sys, time
deadline = time.monotonic() + {READY_TIMEOUT_S}
while time.monotonic() < deadline:
    try:
        with socket.create_connection(("127.0.0.1", {ADMIN_PORT}), 1) as s:
            s.sendall(b"GET /ready HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
            if s.recv(64).startswith(b"HTTP/1.1 200"):
                print(time.monotonic())
                sys.exit(0)
    except OSError:
        pass
    time.sleep({POLL_S})
sys.exit("not ready in time")
"""


def sidecar(folder: Path) -> tuple[float, float]:
    """Milliseconds from exec to the first 200 of /ready, and MiB resident when idle."""
    values = {
        environment.POD_NAME: "bench",
        environment.POD_NAMESPACE: "bench",
        environment.POD_IPS: CLIENT_IP,
        **SIDECAR_ENVIRONMENT,
    }
    # The clock of the asking process and ours are one: CLOCK_MONOTONIC of the machine.
    asking = subprocess.Popen(
        ("ip", "netns", "exec", CLIENT, str(BIN / "python"), "-S", "-E", "-c", _WAIT_READY),
        stdout=subprocess.PIPE,
        text=True,
    )
    time.sleep(0.3)
    begin = time.monotonic()
    with process(CLIENT, (*AS_SIDECAR, *SIDECAR), folder / "proxy.log", environment=values) as child:
        answer, _ = asking.communicate(timeout=READY_TIMEOUT_S + 5)
        if asking.returncode:
            raise RuntimeError((folder / "proxy.log").read_text() or "the sidecar did not become ready")
        time.sleep(IDLE_S)
        return (float(answer) - begin) * 1000, rss_mb(child.pid)


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(prog="bench.sidecar", description="Measure the sidecar's start and idle memory.")
    parser.add_argument("--output", type=Path, help="write the rows as JSON to this file too")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("the benchmark makes network namespaces: run it as root")
    with tempfile.TemporaryDirectory(prefix="tulle-bench-") as name, arena():
        os.chmod(name, 0o755)
        starts = [sidecar(Path(name)) for _ in range(RUNS)]
    rows = []
    for case, what, values, unit in (
        ("ready", "exec to ready", [ms for ms, _ in starts], "ms"),
        ("idle", "resident, idle", [mb for _, mb in starts], "MB"),
    ):
        median, worst = statistics.median(values), max(values)
        print(f"{what:15} {RUNS} runs  median {median:5.0f} {unit}  worst {worst:5.0f} {unit}")
        rows.append({"case": case, "runs": RUNS, "unit": unit, "p50": round(median, 1), "worst": round(worst, 1)})
    if options.output:
        options.output.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
