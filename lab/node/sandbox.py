"""The inside of a container, made by the process that becomes it: mounts, root, credentials. Edge.

Runs in the spawner's forked children only, single-threaded, and imports nothing but the standard library, `launch` and
`hiding`.

A container's root is an overlay file system: the host's files below, a file system in memory above. So it sees the
host's programs and can damage none. Devices cannot be opened through it or its volumes (nodev), /proc/sys and /sys are
read-only, /run, /tmp, /var, /dev and all folders that hold no programs are its own. Sources: overlayfs.rst of the
kernel, mount_namespaces(7), OCI runtime specification (default mounts).
"""

import fcntl
import os
import signal
import stat
import termios
from collections.abc import Callable

from . import hiding
from . import syscalls as sc
from .launch import CAPABILITIES, Credentials, Launch, Root

_OLD = "/.lab-host"
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
# Mounts of these kinds are the kernel's own views, or memory: a container gets its own ones or none.
_VIRTUAL = frozenset(
    [
        "proc",
        "sysfs",
        "devtmpfs",
        "devpts",
        "tmpfs",
        "cgroup",
        "cgroup2",
        "mqueue",
        "hugetlbfs",
        "debugfs",
        "tracefs",
        "securityfs",
        "pstore",
        "bpf",
        "configfs",
        "fusectl",
        "binfmt_misc",
        "autofs",
        "nsfs",
        "rpc_pipefs",
        "efivarfs",
        "ramfs",
    ]
)
_SAFE = sc.MS_NOSUID | sc.MS_NODEV


def enter_root(root: Root) -> None:
    """Make `root` and make it the root folder. The caller is alone in fresh mount, uts and process id namespaces."""
    sc.mount("none", "/", flags=sc.MS_REC | sc.MS_PRIVATE)
    sc.mount("tmpfs", root.scratch, "tmpfs", sc.MS_NODEV, f"size={root.size_bytes},mode=755")
    merged = f"{root.scratch}/merged"
    os.mkdir(merged)
    for number, point in enumerate(["/", *_host_mounts()]):
        _overlay(root, number, point, merged + point.rstrip("/"))
    _mkdir(merged + _OLD)
    sc.pivot_root(merged, merged + _OLD)
    os.chdir("/")
    _mount_own()
    own = hiding.hide(_OLD, root.size_bytes)
    for bind in root.binds:
        _bind(_OLD + bind.source, bind.target, bind.read_only, sc.MS_NOSUID | sc.MS_NODEV)
    _keep_installation(root, own)
    sc.unmount(_OLD, sc.MNT_DETACH)
    os.rmdir(_OLD)
    if root.read_only:
        for point in ("/", "/tmp", "/run", *own):
            sc.mount("none", point, flags=sc.MS_REMOUNT | sc.MS_BIND | sc.MS_RDONLY | sc.MS_NODEV)
    sc.set_hostname(root.hostname)


def _overlay(root: Root, number: int, point: str, target: str) -> None:
    upper, work = f"{root.scratch}/upper{number}", f"{root.scratch}/work{number}"
    os.mkdir(upper)
    os.mkdir(work)
    for folder in root.traversable:
        if folder == point or folder.startswith(point.rstrip("/") + "/"):
            _open_way(upper, point, folder)
    options = f"lowerdir={point.replace(',', chr(92) + ',')},upperdir={upper},workdir={work}"
    try:
        sc.mount("overlay", target, "overlay", sc.MS_NODEV, options)
    except OSError:
        if point == "/":
            raise
        sc.mount(point, target, flags=sc.MS_BIND)
        sc.mount("none", target, flags=sc.MS_REMOUNT | sc.MS_BIND | sc.MS_RDONLY | sc.MS_NODEV)


def _open_way(upper: str, point: str, folder: str) -> None:
    """A folder in the upper layer whose mode lets everybody pass; its content stays the lower one's."""
    way = point.rstrip("/")
    for part in folder[len(way) :].strip("/").split("/"):
        if not part:
            continue
        way = f"{way}/{part}"
        found = os.stat(way)
        inside = upper + way[len(point.rstrip("/")) :]
        if not os.path.isdir(inside):
            os.mkdir(inside)
            os.chown(inside, found.st_uid, found.st_gid)
            os.chmod(inside, stat.S_IMODE(found.st_mode) | 0o111)


def _host_mounts() -> list[str]:
    """Mount points under / that hold the host's files (a home partition, say), outermost first."""
    points = set()
    with open("/proc/self/mountinfo", encoding="utf-8") as lines:
        for line in lines:
            before, _, after = line.partition(" - ")
            point, kind = before.split()[4].encode().decode("unicode_escape"), after.split()[0]
            skipped = point.split("/")[1] not in hiding.PROGRAMS or point.startswith(("/proc", "/sys", "/dev"))
            if kind not in _VIRTUAL and not skipped and os.path.isdir(point):
                points.add(point)
    return sorted(points)


def _mount_own() -> None:
    sc.mount("proc", "/proc", "proc", _SAFE | sc.MS_NOEXEC)
    _try(lambda: sc.mount("sysfs", "/sys", "sysfs", _SAFE | sc.MS_NOEXEC | sc.MS_RDONLY))
    sc.mount("tmpfs", "/dev", "tmpfs", _SAFE, "size=64k,mode=755")
    for device in _DEVICES:
        _bind(f"{_OLD}/dev/{device}", f"/dev/{device}", False, sc.MS_NOSUID)
    for name in ("pts", "shm"):
        os.mkdir(f"/dev/{name}")
    sc.mount("devpts", "/dev/pts", "devpts", sc.MS_NOSUID | sc.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620,gid=5")
    sc.mount("tmpfs", "/dev/shm", "tmpfs", _SAFE, "size=64m,mode=1777")
    for link, target in (("ptmx", "pts/ptmx"), ("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0")):
        os.symlink(target, f"/dev/{link}")
    for link, target in (("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2")):
        os.symlink(target, f"/dev/{link}")
    _mkdir("/tmp")
    sc.mount("tmpfs", "/tmp", "tmpfs", _SAFE, "mode=1777")
    _mount_run()


def _keep_installation(root: Root, own: list[str]) -> None:
    """Show the lab's programs again where a container's own folders, or a volume there, hide them."""
    for number, folder in enumerate((*hiding.SHOWN, *root.traversable)):
        is_hidden = folder.startswith(tuple(f"{place}/" for place in ("/tmp", "/run", *own)))
        if not is_hidden or not os.path.isdir(_OLD + folder):
            continue
        layers = [f"{_OLD}{root.scratch}/{kind}-installation{number}" for kind in ("upper", "work")]
        for path in (*layers, folder):
            _mkdir(path)
        lower = f"{_OLD}{folder}".replace(",", "\\,")
        options = f"lowerdir={lower},upperdir={layers[0]},workdir={layers[1]}"
        try:
            sc.mount("overlay", folder, "overlay", sc.MS_NODEV, options)
        except OSError:
            _bind(f"{_OLD}{folder}", folder, True, sc.MS_NODEV)


def _mount_run() -> None:
    """An own /run with the folders that the host's packages keep there (a database's socket folder), all empty."""
    _mkdir("/run")
    sc.mount("tmpfs", "/run", "tmpfs", _SAFE, "mode=755")
    for entry in os.scandir(f"{_OLD}/run"):
        if entry.is_dir(follow_symlinks=False) and entry.name not in ("tulle-lab", "netns", "user"):
            found = entry.stat()
            os.mkdir(f"/run/{entry.name}")
            os.chown(f"/run/{entry.name}", found.st_uid, found.st_gid)
            os.chmod(f"/run/{entry.name}", stat.S_IMODE(found.st_mode))


def _bind(source: str, target: str, read_only: bool, flags: int) -> None:
    if os.path.isdir(source):
        _mkdir(target)
    elif not os.path.isfile(target) and not os.path.exists(target):
        _mkdir(os.path.dirname(target))
        if os.path.islink(target):
            os.unlink(target)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    sc.mount(source, target, flags=sc.MS_BIND | sc.MS_REC)
    sc.mount("none", target, flags=sc.MS_REMOUNT | sc.MS_BIND | flags | (sc.MS_RDONLY if read_only else 0))


def _mkdir(path: str) -> None:
    os.makedirs(path, mode=0o755, exist_ok=True)


def _try(action: Callable[[], None]) -> None:
    try:
        action()
    except OSError:
        pass


def become(launch: Launch) -> None:
    """Take the launch's identity and program over; returns never. OSError says what was impossible."""
    os.setsid()
    if launch.terminal:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    _make_folder(launch)
    take_credentials(launch.credentials)
    try:
        os.chdir(launch.folder)
    except OSError as error:
        raise OSError(error.errno, f"workingDir {launch.folder}: {error.strerror}") from error
    for number in range(1, signal.NSIG):
        if number not in (signal.SIGKILL, signal.SIGSTOP) and 0 < number < 32:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(0o022)
    _execute(launch)


def _make_folder(launch: Launch) -> None:
    """A workingDir that is not there is made, as container runtimes do; not when joining a running container."""
    if launch.root is not None and not os.path.isdir(launch.folder):
        try:
            _mkdir(launch.folder)
        except OSError:
            pass


def take_credentials(who: Credentials) -> None:
    """Be that user. Root's capabilities shrink at the next exec only: `shrink` for a process that makes none."""
    for number, name in enumerate(CAPABILITIES):
        if name not in who.capabilities:
            _try(lambda number=number: _drop(number))  # type: ignore[misc]
    os.setgroups(who.groups)
    os.setresgid(who.gid, who.gid, who.gid)
    os.setresuid(who.uid, who.uid, who.uid)
    if who.no_new_privileges:
        sc.prctl(sc.PR_SET_NO_NEW_PRIVS, 1)


def shrink(who: Credentials, held: int) -> None:
    """After `take_credentials`: hold no more capabilities than the program, which may then look into our /proc."""
    if who.uid == 0:
        kept = sum(1 << number for number, name in enumerate(CAPABILITIES) if name in who.capabilities)
        sc.set_capabilities(held & kept)
    sc.prctl(sc.PR_SET_DUMPABLE, 1)


def _drop(number: int) -> None:
    sc.prctl(sc.PR_CAPBSET_DROP, number)


def _execute(launch: Launch) -> None:
    program = launch.argv[0]
    paths = (
        [program] if "/" in program else [f"{p}/{program}" for p in launch.environment.get("PATH", "").split(":") if p]
    )
    denied = None
    for path in paths:
        try:
            os.execve(path, list(launch.argv), launch.environment)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            denied = OSError(error.errno, f'exec "{path}": {error.strerror}')
    if denied is not None:
        raise denied
    where = "no such file" if "/" in program else "not found in $PATH"
    raise FileNotFoundError(2, f'exec "{program}": {where} (the lab runs programs of this machine and pulls no images)')
