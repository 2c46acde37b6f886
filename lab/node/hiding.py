"""What a container does not see of the host: secrets, other people's files, the kernel's switches. Edge.

Runs where `sandbox` does, with the same imports: the standard library and `syscalls`. The host's programs stay (/usr,
/opt, /etc and the like); every other folder at the top is the container's own and empty, and of /etc all that not
everybody may read is empty too. What is mounted over here stays so: no container holds the capability to take it away
(`launch`).

Sources: OCI runtime specification (maskedPaths, readonlyPaths) and the lists that containerd gives it.
"""

import os
import stat

from . import syscalls as sc

SAFE = sc.MS_NOSUID | sc.MS_NODEV

PROGRAMS = frozenset(
    [
        "bin",
        "sbin",
        "lib",
        "lib32",
        "lib64",
        "libx32",
        "libo32",
        "usr",
        "opt",
        "etc",
        "nix",
        "gnu",
        "proc",
        "sys",
        "dev",
    ]
)
"""Folders at the top that hold programs, or that `sandbox` has made the container's own already."""

_MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/key-users",
    "/proc/kmsg",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
    "/sys/kernel/debug",
    "/sys/kernel/security",
    "/sys/kernel/tracing",
    "/sys/devices/virtual/powercap",
)
_FIXED = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
SHOWN = ("/var/www",)
"""What is shown all the same: pages that a web server's package brings along, made to be seen by everybody."""

_FOLDER_DEPTHS = {"home": 1, "var": 3}
"""How deep the host's empty folders are made anew: homes, and the places where packages keep state."""


def hide(old: str, size_bytes: int) -> list[str]:
    """Hide it all; `old` is where the host's root is for now. Returns the folders that became file systems."""
    own = _hide_top(old, size_bytes)
    _hide_private("/etc")
    for path in _MASKED:
        _mask(path)
    for path in _FIXED:
        if os.path.exists(path):
            sc.mount(path, path, flags=sc.MS_BIND | sc.MS_REC)
            sc.mount("none", path, flags=sc.MS_REMOUNT | sc.MS_BIND | sc.MS_RDONLY | SAFE)
    return own


def _hide_top(old: str, size_bytes: int) -> list[str]:
    own = []
    for entry in os.scandir("/"):
        if entry.name in PROGRAMS or entry.name in ("tmp", "run", old.strip("/")):
            continue
        if entry.is_dir(follow_symlinks=False):
            sc.mount("tmpfs", entry.path, "tmpfs", SAFE, f"size={size_bytes},mode=755")
            _make_folders(f"{old}/{entry.name}", entry.path, _FOLDER_DEPTHS.get(entry.name, 0))
            own.append(entry.path)
        elif entry.is_file(follow_symlinks=False):
            _mask(entry.path)
    return own


def _make_folders(source: str, target: str, depth: int) -> None:
    """The folders and links of `source`, without a file in them."""
    if depth == 0:
        return
    for entry in os.scandir(source):
        path = f"{target}/{entry.name}"
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), path)
        elif entry.is_dir():
            found = entry.stat()
            os.mkdir(path)
            _make_folders(entry.path, path, depth - 1)
            os.chown(path, found.st_uid, found.st_gid)
            os.chmod(path, stat.S_IMODE(found.st_mode))


def _hide_private(folder: str) -> None:
    """Mask what not everybody may read: password hashes, keys of hosts and services."""
    for entry in os.scandir(folder):
        if entry.is_symlink():
            continue
        mode = entry.stat(follow_symlinks=False).st_mode
        if not mode & stat.S_IROTH:
            _mask(entry.path)
        elif entry.is_dir(follow_symlinks=False):
            _hide_private(entry.path)


def _mask(path: str) -> None:
    if os.path.isdir(path):
        sc.mount("tmpfs", path, "tmpfs", SAFE, "size=1m,mode=755")
    elif os.path.exists(path):
        sc.mount("/dev/null", path, flags=sc.MS_BIND)
