"""What a process of a container needs to start, as one value. Pure.

The daemon fills a `Launch` in, the spawner's child obeys it: nothing about pods or Kubernetes is known below this line.
"""

from typing import Literal

import msgspec

# The set that containerd and CRI-O give a container that asks for nothing.
DEFAULT_CAPABILITIES = frozenset(
    {
        "CHOWN",
        "DAC_OVERRIDE",
        "FSETID",
        "FOWNER",
        "MKNOD",
        "NET_RAW",
        "SETGID",
        "SETUID",
        "SETFCAP",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "SYS_CHROOT",
        "KILL",
        "AUDIT_WRITE",
    }
)

# What a container may ask for beside the set above: powers over its own network, memory and processes. All others reach
# the host, because a lab's containers have no user namespace: mounts, modules, clocks, kernel logs, files by handle.
GRANTED_CAPABILITIES = frozenset({"NET_ADMIN", "NET_BROADCAST", "IPC_LOCK", "SYS_PTRACE"})

# linux/capability.h, in the order of their numbers.
CAPABILITIES = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
]


class Bind(msgspec.Struct, frozen=True):
    """A host path (file or folder) that appears in the container."""

    source: str
    target: str
    read_only: bool = False


class Credentials(msgspec.Struct, frozen=True):
    """Who the process is. `capabilities` are names without CAP_, the bounding set; other users than 0 hold none."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    capabilities: tuple[str, ...] = tuple(sorted(DEFAULT_CAPABILITIES))
    no_new_privileges: bool = False


class Root(msgspec.Struct, frozen=True):
    """The root folder of a container: the host's files, copy-on-write."""

    scratch: str  # an empty host folder; a file system in memory is mounted there, seen by this container alone
    hostname: str
    binds: tuple[Bind, ...] = ()
    traversable: tuple[str, ...] = ()  # folders of the host that every user may pass through (not list)
    read_only: bool = False
    size_bytes: int = 1 << 30  # what a container may write outside of its volumes


class Launch(msgspec.Struct, frozen=True):
    """One process to start."""

    argv: tuple[str, ...]
    environment: dict[str, str]
    folder: str = "/"
    credentials: Credentials = Credentials()
    root: Root | None = None  # None: a process that joins a running container
    terminal: bool = False


Operation = Literal["run", "enter", "signal"]


class Request(msgspec.Struct, frozen=True):
    """To the spawner. Files that ride along with run and enter: launch, stdin, stdout, stderr, fault [, netns]."""

    operation: Operation
    id: int
    target: int = 0  # enter: the id of the container's first process
    signal: int = 0


class Report(msgspec.Struct, frozen=True):
    """From the spawner: a process started (pid) or ended (code: as a shell counts, 128 + signal)."""

    id: int
    pid: int = 0
    code: int | None = None
