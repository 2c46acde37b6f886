"""The cluster's machines: namespaces, cables, control groups; begun, found again, and ended without a trace. Edge.

A machine is a first process (first.py) in a network, mount, process, name and message namespace of its own. What is
outside of the namespaces, and so has to be undone by hand: control groups, and the kernel's settings that a kubelet
insists on. Everything else ends with the first process, whoever ends it.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.cluster import configs, first
from tests.cluster.layout import CONTROL, Folder, Machine

ROOT = Path(__file__).parents[2]
CGROUPS = Path("/sys/fs/cgroup")
NICENESS = 5
"""Of everything in the cluster: whoever sits at this machine comes first."""
KUBELETS_SETTINGS = (
    "kernel.keys.root_maxbytes",
    "kernel.keys.root_maxkeys",
    "kernel.panic",
    "kernel.panic_on_oops",
    "vm.overcommit_memory",
    "vm.panic_on_oom",
)
"""Of the whole machine, set by every kubelet at its start; put back when the cluster ends."""
_PR_SET_PDEATHSIG = 1


class ClusterError(Exception):
    """Why there is no cluster, in words for whoever asked for one."""


def run(*command: str | Path, stdin: str | None = None, timeout_s: float = 60) -> str:
    """Run a program to its end; what it printed. Its errors are ours."""
    words = tuple(map(str, command))
    done = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode != 0:
        raise ClusterError(f"{' '.join(words)}\nexit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout


def start(folder: Folder, machine: Machine, programs: list[configs.Program], files: dict[str, str], tied: bool) -> int:
    """Begin a machine; its first process's id. `tied`: it ends when this process does, even by a kill."""
    home = folder.of(machine)
    home.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    path = f"{folder.programs}:{os.environ['PATH']}:/usr/sbin:/sbin"
    told = [(one.name, one.command, one.after) for one in programs]
    work = first.Work(machine.name, str(home), told, path, str(folder.keys), NICENESS)
    first.write(work, home / "first.json")
    _make_cgroups(folder, machine)
    command = ("unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child")
    with (home / "first.log").open("wb") as log:
        started = subprocess.Popen(
            (*command, sys.executable, "-m", "tests.cluster.first", str(home)),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=_end_with_parent if tied else None,
        )
    # Nobody waits for it: it may live longer than this process.
    started.returncode = 0
    wait_until(lambda: pid_of(folder, machine) is not None, f"{machine.name} to begin ({home}/first.log)", 20)
    return pid_of(folder, machine) or 0


def run_tied(command: tuple[str, ...], environment: dict[str, str]) -> int:
    """Run a program on this terminal, which ends when this process does; its exit code."""
    return subprocess.run(command, cwd=ROOT, env=environment, preexec_fn=_end_with_parent, check=False).returncode


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def go(folder: Folder, machine: Machine) -> None:
    """Its network stands: let it start its programs."""
    (folder.of(machine) / "go").touch()


def pid_of(folder: Folder, machine: Machine) -> int | None:
    """The first process of a machine that lives; the id alone could be another's by now."""
    home = folder.of(machine)
    try:
        pid = int((home / "pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if b"tests.cluster.first" in command and str(home).encode() in command else None


def inside(pid: int, *command: str | Path) -> tuple[str, ...]:
    """The command, in a machine's network."""
    return ("nsenter", f"--net=/proc/{pid}/ns/net", *map(str, command))


def join(control: int, control_machine: Machine, nodes: list[tuple[int, Machine]]) -> None:
    """Lay the cables and the routes: a switch at the control plane, a cable from it to each node."""
    everyone = [(control, control_machine), *nodes]
    _ip(control, "link add switch type bridge", "link set switch up")
    for pid, node in nodes:
        _ip(control, f"link add {node.name} type veth peer name cable netns {pid}")
        _ip(control, f"link set {node.name} master switch up")
        # A node's own traffic to a port of the node comes back by the cable that it left by.
        _ip(control, f"link set {node.name} type bridge_slave hairpin on")
    for pid, machine in everyone:
        cable = "switch" if machine is control_machine else "cable"
        four, six = machine.addresses
        _ip(pid, "link set lo up", f"link set {cable} up")
        _ip(pid, f"addr add {four}/24 dev {cable}", f"addr add {six}/64 dev {cable} nodad")
        # What is for the rest of the world is swallowed: nothing answers, and nothing refuses.
        # (Without address resolution, its frames carry an address that the other end does not take for its own.)
        _ip(pid, "link add world type veth peer name beyond")
        _ip(pid, "link set world arp off", "link set world up", "link set beyond up")
        _ip(pid, "route add default dev world", "route add ::/0 dev world metric 2000")
        for _, other in nodes:
            if other is not machine:
                for network, address in zip(other.pods, other.addresses, strict=True):
                    _ip(pid, f"route add {network} via {address}")
        settings = ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        run(*inside(pid, "sysctl", "-qw", *settings))


def _ip(pid: int, *lines: str) -> None:
    run(*inside(pid, "ip", "-batch", "-"), stdin="\n".join(lines) + "\n")


def wait_until(condition: Callable[[], object], what: str, timeout_s: float) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise ClusterError(f"waited {timeout_s:g} s in vain for {what}")
        time.sleep(0.2)


def stop(folder: Folder) -> None:
    """End every machine of a cluster that runs or was left behind, and undo what stands outside of namespaces."""
    for home in sorted(folder.run.glob("*/first.json")):
        machine = Machine(home.parent.name, 0)
        pid = pid_of(folder, machine)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda one=machine: pid_of(folder, one) is None, f"{machine.name} to end", 30)  # type: ignore[misc]
    for hierarchy in _hierarchies():
        _remove_cgroups(hierarchy / folder.group)
    before = folder.run / "sysctl"
    if before.exists():
        # What a container's runtime hides cannot be put back, and was not changed.
        subprocess.run(("sysctl", "-q", "-e", "-p", before), check=False, capture_output=True)
    shutil.rmtree(folder.run, ignore_errors=True)


def keep_settings(folder: Folder) -> None:
    """Write down the settings that the kubelets will change."""
    folder.run.mkdir(parents=True, exist_ok=True)
    told = subprocess.run(("sysctl", "-e", *KUBELETS_SETTINGS), capture_output=True, text=True, check=False)
    (folder.run / "sysctl").write_text(told.stdout)


def _hierarchies() -> Iterator[Path]:
    """Where control groups are made: one place in version 2, one a controller in version 1."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind in ("cgroup", "cgroup2") and place.startswith(str(CGROUPS)):
            yield Path(place)


def _make_cgroups(folder: Folder, machine: Machine) -> None:
    for hierarchy in _hierarchies():
        for group in (hierarchy / folder.group, hierarchy / folder.group / machine.name):
            group.mkdir(exist_ok=True)
            _enable(group)


def _enable(group: Path) -> None:
    """A new group has nothing of its parent's: not the processors (version 1), not the controllers (version 2)."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        ours = group / name
        if (group / "tasks").exists() and ours.exists() and not ours.read_text().strip():
            ours.write_text((group.parent / name).read_text())
    control = group.parent / "cgroup.subtree_control"
    if control.exists():
        wanted = {"cpu", "cpuset", "io", "memory", "pids", "hugetlb"}
        for controller in wanted & set((group.parent / "cgroup.controllers").read_text().split()):
            with contextlib.suppress(OSError):
                control.write_text(f"+{controller}")


def _remove_cgroups(group: Path) -> None:
    """From the leaves up; the kernel may take a moment to let go of the dead."""
    for _ in range(50):
        for directory, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                Path(directory).rmdir()
        if not group.exists():
            return
        time.sleep(0.1)


def control_of(folder: Folder) -> int:
    """The control plane's first process."""
    pid = pid_of(folder, Machine(CONTROL, 0))
    if pid is None:
        raise ClusterError("the cluster is not up: python -m tests.cluster up")
    return pid
