"""A lab's folder and what tells that it runs. Edge.

/run/tulle-lab/NAME holds `daemon` (process id and start time: a number alone may be somebody else's later),
`kubeconfig`, `log`, and `pods`, over which the daemon mounts a file system of its own.
"""

import os
import re
import shutil
from dataclasses import dataclass

import msgspec

STATE = "/run/tulle-lab"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?")


class Running(msgspec.Struct, frozen=True):
    """The daemon of a lab: `start_ticks` is field 22 of /proc/PID/stat (proc(5))."""

    pid: int
    start_ticks: int
    port: int


@dataclass(frozen=True)
class Paths:
    """The places of one lab."""

    name: str

    @property
    def folder(self) -> str:
        return f"{STATE}/{self.name}"

    @property
    def kubeconfig(self) -> str:
        return f"{self.folder}/kubeconfig"

    @property
    def log(self) -> str:
        return f"{self.folder}/log"

    @property
    def pods(self) -> str:
        return f"{self.folder}/pods"

    @property
    def namespace(self) -> str:
        """Name of the node's network namespace, for `ip netns`."""
        return f"tulle-{self.name}"


def fault_of_name(name: str) -> str:
    """What is wrong with a lab's name; empty where nothing is."""
    if _NAME.fullmatch(name):
        return ""
    return f"--name {name!r}: use 1 to 32 lower-case letters, digits and hyphens, like demo-2"


def labs() -> list[str]:
    """Names of the labs that have a folder here, running or not."""
    try:
        return sorted(entry.name for entry in os.scandir(STATE) if entry.is_dir() and not fault_of_name(entry.name))
    except FileNotFoundError:
        return []


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None where there is no such process, or only its remains."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def write_running(paths: Paths, running: Running) -> None:
    with open(f"{paths.folder}/daemon", "wb") as file:
        file.write(msgspec.json.encode(running))


def read_running(paths: Paths) -> Running | None:
    """The lab's daemon, if it is alive; None where it is not."""
    try:
        with open(f"{paths.folder}/daemon", "rb") as file:
            found = msgspec.json.decode(file.read(), type=Running)
    except (OSError, msgspec.DecodeError):
        return None
    return found if start_ticks(found.pid) == found.start_ticks else None


def leftovers(paths: Paths) -> list[int]:
    """Processes whose root folder lies in the lab's own: containers that outlived their daemon, if any ever do."""
    mark, found = f"upperdir={paths.folder}/", []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/mountinfo", encoding="utf-8", errors="replace") as file:
                    if any(mark in line and line.split()[4] == "/" for line in file):
                        found.append(int(entry))
            except OSError:
                pass
    return found


def remove_folder(paths: Paths) -> None:
    shutil.rmtree(paths.folder, ignore_errors=True)
    try:
        os.rmdir(STATE)
    except OSError:
        pass
