"""The benchmark's own programs (bench/native/*.c), compiled into the virtual environment when they changed. Edge."""

import subprocess
from pathlib import Path

from bench.arena import BIN

SOURCES = Path(__file__).parent / "native"
FLAGS = ("-O2", "-Wall", "-Wextra", "-Werror")


def program(name: str) -> str:
    """Path of a program of bench/native, compiled if need be."""
    target = BIN.parent / "bench" / name
    newest = max(path.stat().st_mtime for path in (SOURCES / f"{name}.c", SOURCES / "common.h"))
    if not target.exists() or target.stat().st_mtime < newest:
        target.parent.mkdir(exist_ok=True)
        subprocess.run(("gcc", *FLAGS, "-o", str(target), str(SOURCES / f"{name}.c")), check=True)
    return str(target)
