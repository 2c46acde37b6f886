"""The first process of a machine's namespaces: mounts what the machine has of its own, starts its programs, and starts
again what ends. Edge; knows the standard library alone.

    python -m tests.cluster.first HOME

HOME/first.json is the work (Work, below). Everything in the namespaces dies with this process, by the kernel's own rule
for the first process of a process namespace.
"""

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

LONGEST_WAIT_S = 120.0
"""For what a program needs before it starts; then it starts anyway, and says itself what it lacks."""
AGAIN_S = 1.0
"""Between a program's end and its next start."""


@dataclass(frozen=True)
class Work:
    """What the first process is told."""

    name: str
    home: str
    programs: list[tuple[str, tuple[str, ...], str | None]]
    """Name, command, and what has to be there before: see configs.Program."""
    path: str
    keys: str
    niceness: int


def write(work: Work, file: Path) -> None:
    file.write_text(json.dumps(asdict(work)))


def main() -> None:
    home = Path(sys.argv[1])
    work = Work(**json.loads((home / "first.json").read_text()))
    # /proc is still the outer one, and names this process as the outside does.
    (home / "pid").write_text(os.readlink("/proc/self"))
    _mounts(home)
    socket.sethostname(work.name)
    os.nice(work.niceness)
    os.environ["PATH"] = work.path
    _wait(lambda: (home / "go").exists())
    _run(work)


def _mounts(home: Path) -> None:
    """The machine's own view: its processes, its /run, its logs; what it mounts is seen by its containers."""
    for name in ("logs", "pods", "kubelet", "containerd", "log"):
        (home / name).mkdir(exist_ok=True)
    for command in (
        ("mount", "--make-rshared", "/"),
        ("mount", "-t", "proc", "proc", "/proc"),
        ("mount", "-t", "tmpfs", "tmpfs", "/run"),
        ("mount", "--bind", str(home / "log"), "/var/log"),
    ):
        subprocess.run(command, check=True)


def _run(work: Work) -> None:
    """Start all in their order; then, for ever, bury what ended and start again what should run."""
    running: dict[int, int] = {}
    due: dict[int, float] = dict.fromkeys(range(len(work.programs)), 0.0)
    while True:
        for index, due_s in sorted(due.items()):
            if due_s <= time.monotonic():
                del due[index]
                running[_start(work, index)] = index
        pid, status = _ended()
        if pid in running:
            index = running.pop(pid)
            due[index] = time.monotonic() + AGAIN_S
            print(f"{work.programs[index][0]} ended: {os.waitstatus_to_exitcode(status)}", flush=True)
        elif pid == 0:
            time.sleep(0.1)


def _ended() -> tuple[int, int]:
    """Some process that has ended, and how; (0, 0) when none has, or none is left."""
    try:
        return os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return 0, 0


def _start(work: Work, index: int) -> int:
    name, command, after = work.programs[index]
    if after is not None:
        _wait(lambda: _is_there(after, Path(work.keys)))
    program = shutil.which(command[0]) or command[0]
    with Path(work.home, "logs", f"{name}.log").open("ab") as log:
        # Not waited for by this object: `_run` waits for all.
        started = subprocess.Popen(
            (program, *command[1:]), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    print(f"{name} started", flush=True)
    started.returncode = 0
    return started.pid


def _wait(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + LONGEST_WAIT_S
    while not condition() and time.monotonic() < deadline_s:
        time.sleep(0.1)


def _is_there(what: str, keys: Path) -> bool:
    """A socket's path (unix:), a port (tcp://), or a URL that answers exactly `ok`.

    An API server that answers more than `ok` still lacks parts, and who starts on it takes them for missing.
    """
    try:
        if what.startswith("unix:"):
            return Path(what.removeprefix("unix:")).is_socket()
        if what.startswith("tcp://"):
            host, _, port = what.removeprefix("tcp://").partition(":")
            socket.create_connection((host, int(port)), timeout=1).close()
            return True
        context = ssl.create_default_context(cafile=keys / "ca.crt")
        context.load_cert_chain(keys / "admin.crt", keys / "admin.key")
        with urllib.request.urlopen(what, timeout=2, context=context) as answer:
            return bool(answer.read() == b"ok")
    except OSError:
        return False


if __name__ == "__main__":
    main()
