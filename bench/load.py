"""Closed-loop HTTP/1.1 load by wrk, and what it cost the process under test. Edge."""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.arena import CLIENT

# Eight request headers beside Host: what a browser behind a gateway sends, in size and in number.
HEADERS = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64)",
    "Accept: text/html,application/json",
    "Accept-Language: en-US,en;q=0.9",
    "Accept-Encoding: gzip, deflate",
    "X-Request-Id: 6b1c2f9e-5a0b-4f58-9b7e-1c2d3e4f5a6b",
    "Authorization: Bearer abcdefghijklmnopqrstuvwxyz",
    "Cookie: session=0123456789abcdef",
    "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)

_CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_MS_PER_UNIT = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@dataclass(frozen=True)
class Row:
    """One line of results; the field names are those of bench/results/latest.json."""

    case: str
    system: str
    connections: int
    cpu_us_per_request: float | None
    """User and system time of the system's process; None where there is no such process (`direct`)."""
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    rss_mb: float | None


def cpu_s(pid: int) -> float:
    """User and system CPU seconds of a process so far, all threads (proc(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS_PER_S


def rss_mb(pid: int) -> float:
    """Resident memory of a process in MiB."""
    match = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert match is not None
    return int(match[1]) / 1024


def _wrk(url: str, connections: int, duration_s: float) -> str:
    command = ["ip", "netns", "exec", CLIENT, "wrk", "--latency", "-t1", f"-c{connections}", f"-d{duration_s:g}s"]
    for header in HEADERS:
        command += ["-H", header]
    return subprocess.run((*command, url), check=True, capture_output=True, text=True).stdout


def _number(output: str, pattern: str) -> float:
    match = re.search(pattern, output)
    if match is None:
        raise RuntimeError(f"wrk said something new:\n{output}")
    return float(match[1]) * (_MS_PER_UNIT[match[2]] if match.re.groups == 2 else 1)


def measure(case: str, system: str, pid: int | None, url: str, connections: int, duration_s: float) -> Row:
    """Warm up for a second, then load for `duration_s` and count.

    Raises RuntimeError where a request failed: a benchmark of errors says nothing.
    """
    _wrk(url, connections, 1)
    before_s = cpu_s(pid) if pid else 0.0
    output = _wrk(url, connections, duration_s)
    used_s = cpu_s(pid) - before_s if pid else 0.0
    if "Non-2xx" in output or "Socket errors" in output:
        raise RuntimeError(f"{system}: requests failed:\n{output}")
    requests = _number(output, r"(\d+) requests in")
    return Row(
        case=case,
        system=system,
        connections=connections,
        cpu_us_per_request=round(used_s * 1e6 / requests, 1) if pid else None,
        requests_per_s=round(_number(output, r"Requests/sec:\s+([\d.]+)")),
        p50_ms=round(_number(output, r"50%\s+([\d.]+)(us|ms|s|m)"), 3),
        p99_ms=round(_number(output, r"99%\s+([\d.]+)(us|ms|s|m)"), 3),
        rss_mb=round(rss_mb(pid), 1) if pid else None,
    )
