"""Volumes as folders on disk, changed atomically. Edge.

A volume of files has them in a folder named by time, a link `..data` to it that is swapped by one rename, and a link
for each file: a reader sees all of the old files or all of the new ones, and a watcher of `..data` sees one change.
It is the layout that programs in Kubernetes know. Group ownership follows a pod's fsGroup as a kubelet applies it.
"""

import os
import shutil
import stat
import tempfile

from . import syscalls as sc
from .volume_content import VolumeFile

_DATA = "..data"


def write_files(folder: str, files: list[VolumeFile], group: int | None) -> bool:
    """Make the folder show exactly `files`; False where it already did."""
    os.makedirs(folder, exist_ok=True)
    if _shown(folder) == {file.path: (file.data, _mode(file, group)) for file in files}:
        return False
    fresh = tempfile.mkdtemp(prefix="..", dir=folder)
    os.chmod(fresh, 0o755)
    for file in files:
        _write(os.path.join(fresh, file.path), file, group)
    if group is not None:
        for place, _, _ in os.walk(fresh):
            _give_folder(place, group)
        _give_folder(folder, group)
    old = os.path.realpath(os.path.join(folder, _DATA)) if os.path.islink(os.path.join(folder, _DATA)) else None
    link = os.path.join(folder, f"{_DATA}_tmp")
    os.symlink(os.path.basename(fresh), link)
    os.rename(link, os.path.join(folder, _DATA))
    _link_names(folder, {file.path.split("/")[0] for file in files})
    if old:
        shutil.rmtree(old, ignore_errors=True)
    return True


def _shown(folder: str) -> dict[str, tuple[bytes, int]] | None:
    base = os.path.join(folder, _DATA)
    if not os.path.isdir(base):
        return None
    found = {}
    for place, _, names in os.walk(base):
        for name in names:
            path = os.path.join(place, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, base)] = (file.read(), stat.S_IMODE(os.fstat(file.fileno()).st_mode))
    return found


def _mode(file: VolumeFile, group: int | None) -> int:
    return file.mode | (0o440 if group is not None else 0)


def _write(path: str, file: VolumeFile, group: int | None) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as out:
        out.write(file.data)
        if group is not None:
            os.fchown(out.fileno(), -1, group)
        os.fchmod(out.fileno(), _mode(file, group))


def _give_folder(path: str, group: int) -> None:
    os.chown(path, -1, group)
    os.chmod(path, stat.S_IMODE(os.stat(path).st_mode) | stat.S_ISGID | 0o050)


def _link_names(folder: str, names: set[str]) -> None:
    for entry in os.scandir(folder):
        if not entry.name.startswith("..") and entry.name not in names:
            os.unlink(entry.path)
    for name in names:
        if not os.path.islink(os.path.join(folder, name)):
            os.symlink(f"{_DATA}/{name}", os.path.join(folder, name))


def make_empty(folder: str, *, size_bytes: int | None, in_memory: bool, group: int | None) -> None:
    """An emptyDir. One with a size, or in memory, is a file system of its own, so the size holds."""
    os.makedirs(folder, exist_ok=True)
    if in_memory or size_bytes is not None:
        sc.mount("tmpfs", folder, "tmpfs", sc.MS_NOSUID | sc.MS_NODEV, f"size={size_bytes}" if size_bytes else "")
    os.chmod(folder, 0o777)
    if group is not None:
        os.chown(folder, -1, group)
        os.chmod(folder, 0o2777)


def sub_path(volume: str, path: str) -> str:
    """The host path of a volumeMount's subPath, made if it is not there; ValueError when it leads outside."""
    target = os.path.realpath(os.path.join(volume, path))
    if target != os.path.realpath(volume) and not target.startswith(os.path.realpath(volume) + "/"):
        raise ValueError(f"subPath {path!r} leads out of its volume")
    if not os.path.exists(target):
        os.makedirs(target, exist_ok=True)
        os.chmod(target, stat.S_IMODE(os.stat(volume).st_mode) & 0o7777)
    return target


def remove_tree(folder: str) -> None:
    """Unmount what is mounted inside of the folder, and remove it."""
    with open("/proc/self/mountinfo", encoding="utf-8") as lines:
        points = [line.split()[4].encode().decode("unicode_escape") for line in lines]
    for point in reversed([p for p in points if p.startswith(folder + "/")]):
        try:
            sc.unmount(point, sc.MNT_DETACH)
        except OSError:
            pass
    shutil.rmtree(folder, ignore_errors=True)
