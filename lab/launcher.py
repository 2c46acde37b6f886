"""Starts, stops and looks at labs: what `tulle lab` does. Edge.

`up` opens the listener on the host's loopback, makes the node's network namespace, and starts the daemon in it.
`down` ends the daemon, with which containers, mounts and links go, and removes the namespace's name and the folder.
Both first clear away what a crashed run of that very lab left.
"""

import contextlib
import errno
import fcntl
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lab import state
from lab.node import network
from lab.state import Paths, Running

FIRST_PORT, PORTS_COUNT = 7443, 100
START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 10.0
_LAST_WORDS_S = 2.0
_TOOLS = {"nft": "nftables", "ip": "iproute2"}
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class LabError(Exception):
    """The lab cannot do it; the text says why and what would help."""


def up(name: str, *, api_port: int | None, tell: Callable[[str], None]) -> tuple[Paths, Running, bool]:
    """Start a lab, or find it running. Returns its places, its daemon, and whether it was started now. LabError.

    `tell` hears what is being done, a few words each time.
    """
    _check_machine()
    paths = _paths(name)
    os.makedirs(paths.folder, mode=0o700, exist_ok=True)
    with _locked(paths):
        running = state.read_running(paths)
        if running is not None:
            if api_port not in (None, running.port):
                raise LabError(f"lab {name} runs already, on port {running.port}: `tulle lab down --name {name}` first")
            return paths, running, False
        tell("clearing away what an earlier run left")
        _clear(paths)
        try:
            os.makedirs(paths.folder, mode=0o700, exist_ok=True)
            with _listen(api_port) as listener:
                tell("starting the API server, the controllers and the node")
                return paths, _start(paths, listener), True
        except BaseException:
            _clear(paths)
            raise


def down(name: str, tell: Callable[[str], None]) -> bool:
    """Stop a lab and remove what it made; False where there was nothing of it. LabError."""
    _check_root()
    paths = _paths(name)
    if not os.path.isdir(paths.folder) and not os.path.exists(f"{network.NETNS_FOLDER}/{paths.namespace}"):
        return False
    with _locked(paths):
        running = state.read_running(paths)
        if running is not None:
            tell(f"stopping lab {name}")
            _end(running)
        _clear(paths)
    return True


def _paths(name: str) -> Paths:
    fault = state.fault_of_name(name)
    if fault:
        raise LabError(fault)
    return Paths(name)


def _check_root() -> None:
    if os.geteuid() != 0:
        raise LabError("a lab makes network namespaces, which needs root: run it again with sudo")


def _check_machine() -> None:
    _check_root()
    for tool, package in _TOOLS.items():
        if shutil.which(tool, path=f"{os.environ.get('PATH', '')}:{_PATH}") is None:
            raise LabError(f"{tool} is missing: install it, on Debian and Ubuntu with `apt-get install {package}`")
    kinds = {"net": "network", "mnt": "mount", "pid": "process id", "uts": "UTS", "ipc": "IPC"}
    missing = [word for kind, word in kinds.items() if not os.path.exists(f"/proc/self/ns/{kind}")]
    if missing:
        raise LabError(
            f"this kernel has no {', '.join(missing)} namespaces, which a lab is made of: use another kernel"
        )
    with open("/proc/filesystems", encoding="ascii") as file:
        if "overlay" not in file.read() and subprocess.run(["modprobe", "overlay"], capture_output=True).returncode:
            raise LabError("this kernel has no overlay file system, which containers' roots are made of")


@contextmanager
def _locked(paths: Paths) -> Iterator[None]:
    """One command at a time for a lab; the lock is on the folder, and goes with it."""
    os.makedirs(paths.folder, mode=0o700, exist_ok=True)
    file = os.open(paths.folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise LabError(f"another `tulle lab` command is at work on lab {paths.name}: try again in a moment") from None
    finally:
        os.close(file)


def _listen(port: int | None) -> socket.socket:
    """The API's listener: on the port that was asked for, or the first free one."""
    wanted = [port] if port is not None else range(FIRST_PORT, FIRST_PORT + PORTS_COUNT)
    for number in wanted:
        try:
            return socket.create_server(("127.0.0.1", number), backlog=512)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise LabError(f"cannot listen on 127.0.0.1:{number}: {error.strerror}") from error
    if port is not None:
        raise LabError(f"port {port} on 127.0.0.1 is taken: choose another one with --api-port")
    last = FIRST_PORT + PORTS_COUNT - 1
    raise LabError(f"all ports from {FIRST_PORT} to {last} are taken: choose a free one with --api-port")


def _start(paths: Paths, listener: socket.socket) -> Running:
    namespace = network.new_namespace()
    try:
        network.name_namespace(paths.namespace, namespace)
    finally:
        os.close(namespace)
    hears, tells = os.pipe()
    with open(paths.log, "ab") as log:
        daemon = subprocess.Popen(
            [sys.executable, "-m", "lab", paths.name, str(listener.fileno()), str(tells)],
            pass_fds=[listener.fileno(), tells],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=_environment(),
            cwd="/",
        )
    os.close(tells)
    started = state.start_ticks(daemon.pid)
    running = Running(daemon.pid, started or 0, listener.getsockname()[1])
    state.write_running(paths, running)
    try:
        said = _hear(hears)
    finally:
        os.close(hears)
    if said != "ready":
        with contextlib.suppress(subprocess.TimeoutExpired):
            daemon.wait(_LAST_WORDS_S)  # what it still has to say goes to its log
        _end(running)
        tail = _tail(paths.log)
        raise LabError(f"the lab did not start: {said or 'no word from its daemon'}{tail}")
    return running


def _environment() -> dict[str, str]:
    """The daemon's own: a path that has nft and ip, the project importable, nothing that could lead it astray."""
    project = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    kept = {key: value for key, value in os.environ.items() if key in ("LANG", "LC_ALL", "TZ", "HOME", "VIRTUAL_ENV")}
    return kept | {"PATH": _PATH, "PYTHONPATH": project, "PYTHONUNBUFFERED": "1"}


def _hear(file: int) -> str:
    """The daemon's first line, or nothing where it ends or START_TIMEOUT_S passes without one."""
    end, said = time.monotonic() + START_TIMEOUT_S, b""
    while b"\n" not in said:
        ready, _, _ = select.select([file], [], [], max(0.0, end - time.monotonic()))
        data = os.read(file, 4096) if ready else b""
        if not data:
            break
        said += data
    return said.decode(errors="replace").strip()


def _tail(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()[-12:]
    except OSError:
        return ""
    return "\nThe end of its log:\n  " + "\n  ".join(lines) if lines else ""


def _end(running: Running) -> None:
    """SIGTERM, then SIGKILL; returns when the process is gone."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        end = time.monotonic() + _STOP_TIMEOUT_S
        if state.start_ticks(running.pid) == running.start_ticks:
            os.kill(running.pid, number)
        while time.monotonic() < end:
            if state.start_ticks(running.pid) != running.start_ticks:
                return
            time.sleep(0.02)
    raise LabError(f"the daemon (process {running.pid}) does not end, even by SIGKILL")


def _clear(paths: Paths) -> None:
    """Remove what is left of a lab whose daemon is gone, and nothing else."""
    end = time.monotonic() + _STOP_TIMEOUT_S
    while (pids := state.leftovers(paths)) and time.monotonic() < end:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.02)
    network.remove_name(paths.namespace)
    state.remove_folder(paths)
