"""What a process has cost so far: CPU time and memory, of it and the processes it started. Edge."""

import os
import re
from pathlib import Path

_CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """The process and all that descend from it."""
    found = [pid]
    for member in found:
        for thread in Path(f"/proc/{member}/task").iterdir():
            found += [int(child) for child in (thread / "children").read_text().split()]
    return found


def cpu_s(pid: int) -> float:
    """User and system CPU seconds so far, all threads (proc(5), fields 14 and 15)."""
    ticks = 0
    for member in family(pid):
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _CLOCK_TICKS_PER_S


def rss_mb(pid: int) -> float:
    """Resident memory in MiB."""
    kib = 0
    for member in family(pid):
        match = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{member}/status").read_text())
        kib += int(match[1]) if match else 0
    return kib / 1024
