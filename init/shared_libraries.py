"""Import python-iptables without its search for shared libraries. Edge.

On import the package asks `ctypes.util.find_library` for each of its libraries under many names, and every question
starts ldconfig, gcc or ld; then it runs `ldconfig -v` to learn where xtables keeps its extensions. That costs about
0.25 s of a pod's start (docs/performance.md), and fails in an image that has none of these programs. The answers are
few and known: sonames, which the dynamic loader resolves by itself, and one directory.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

from init.errors import BackendError

SONAMES: dict[str, tuple[str, ...]] = {
    "c": ("libc.so.6",),
    # python-iptables 1.2 knows the structures of these versions and of no later one.
    "xtables": ("libxtables.so.12", "libxtables.so.11", "libxtables.so.10"),
    "ip4tc": ("libip4tc.so.2", "libip4tc.so.0"),
    "ip6tc": ("libip6tc.so.2", "libip6tc.so.0"),
}


def import_iptc() -> ModuleType:
    """Import python-iptables, at the first call. Raises BackendError when it or its C libraries are missing."""
    loaded = sys.modules.get("iptc")
    return loaded if loaded is not None else _import_undelayed()


def _import_undelayed() -> ModuleType:
    os.environ.setdefault("XTABLES_LIBDIR", _extension_directory())
    search = ctypes.util.find_library
    ctypes.util.find_library = find_soname
    # Without distutils the package falls back to sysconfig; with it, a virtual environment's hook loads all of
    # setuptools, another 0.15 s.
    hidden = {name: sys.modules.get(name) for name in ("distutils", "distutils.sysconfig")}
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        import iptc
    except Exception as error:  # its module code fails with whatever the missing piece made it fail with
        raise BackendError(f"python-iptables cannot be loaded: {error}") from error
    finally:
        ctypes.util.find_library = search
        for name, module in hidden.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module
    return iptc  # type: ignore[no-any-return]


def find_soname(name: str) -> str | None:
    """Answer as `ctypes.util.find_library` would, for the libraries that python-iptables needs and for no other."""
    return next((soname for soname in SONAMES.get(name, ()) if _loads(soname)), None)


def _loads(soname: str) -> bool:
    try:
        ctypes.CDLL(soname)
    except OSError:
        return False
    return True


def _extension_directory() -> str:
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    candidates = [Path("/usr/lib", multiarch, "xtables"), Path("/usr/lib64/xtables"), Path("/usr/lib/xtables")]
    # Where none exists the first is named: the error about a missing extension then says where it was looked for.
    return str(next((path for path in candidates if path.is_dir()), candidates[0]))
